-- A provider: a foreign-data wrapper.  Once for each line of src/provider/list.h, with its name and what it is.

CREATE FUNCTION @name@_validator(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL SAFE;
REVOKE ALL ON FUNCTION @name@_validator(text[], oid) FROM PUBLIC;
COMMENT ON FUNCTION @name@_validator(text[], oid) IS
    'checks the options of servers and user mappings of the wrapper @name@; errors HV00D (unknown option), 22023 (bad value), 42501 (option for superusers)';
CREATE FOREIGN DATA WRAPPER @name@ NO HANDLER VALIDATOR @name@_validator;
COMMENT ON FOREIGN DATA WRAPPER @name@ IS
    '@about@; a gateway is a server of this wrapper';

-- Every object explains itself.
CREATE EXTENSION sms_gateway;
SELECT pg_describe_object(classid, objid, 0) AS "without a comment"
  FROM pg_depend d
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sms_gateway')
   AND obj_description(objid, classid::regclass::name) IS NULL
   AND classid <> 'pg_type'::regclass
   AND NOT (classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = objid) IN ('i', 'S'))
 ORDER BY 1;
SELECT attrelid::regclass AS relation, attname AS "without a comment"
  FROM pg_attribute
 WHERE attrelid IN (SELECT objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND classid = 'pg_class'::regclass
                       AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sms_gateway'))
   AND attnum > 0 AND NOT attisdropped AND (SELECT relkind FROM pg_class WHERE oid = attrelid) IN ('r', 'v')
   AND col_description(attrelid, attnum) IS NULL
 ORDER BY 1, 2;
-- What anybody may do, and what not.
SELECT p.oid::regprocedure AS "for everybody"
  FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
 WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'sms_gateway')
   AND has_function_privilege('public', p.oid, 'EXECUTE')
 ORDER BY p.proname;
SHOW sms_gateway.retry_max;
DROP EXTENSION sms_gateway;

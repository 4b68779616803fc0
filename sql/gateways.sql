-- Gateways are foreign servers: what may be said about them, and how it is refused.
CREATE EXTENSION sms_gateway;
\set VERBOSITY verbose
\set SHOW_CONTEXT never

-- good ones
CREATE SERVER shop FOREIGN DATA WRAPPER esms OPTIONS (
    brandname 'MYSHOP', base_url 'http://127.0.0.1:1/some/path/', timeout '10s', connect_timeout '500ms',
    max_in_flight '8', rate_limit '2.5', max_attempts '3', country_code '84', on_uncertain 'hold',
    poll_delivery 'on', sms_type '2', unicode 'yes', sandbox '1', campaign_id 'tet',
    callback_url 'https://example.com/cb?t={token}', ca_file '/dev/null');
CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'k', secret_key 's');
CREATE SERVER omni FOREIGN DATA WRAPPER etelecom OPTIONS (routerule '1, 3', template_code 'T', fallback 'shop');
CREATE SERVER cpaas FOREIGN DATA WRAPPER interits OPTIONS (
    sender 'MYSHOP', type '0', idempotent 'true', success_codes '0, 200', base_url 'http://[::1]:1');
CREATE SERVER bare FOREIGN DATA WRAPPER esms;
\set VERBOSITY default

-- unknown names and misplaced secrets
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (brand 'MYSHOP');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (sender 'MYSHOP');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (api_key 'k');
CREATE USER MAPPING FOR CURRENT_USER SERVER bare OPTIONS (password 'p');
CREATE USER MAPPING FOR CURRENT_USER SERVER bare OPTIONS (brandname 'p');
ALTER FOREIGN DATA WRAPPER esms OPTIONS (brandname 'x');
CREATE FOREIGN TABLE t (a int) SERVER bare;

-- wrong values, at CREATE and at ALTER
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (timeout 'soon');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (timeout '2h');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (max_in_flight '0');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (max_in_flight '1.5');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (rate_limit '-1');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (rate_limit 'nan');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (country_code '0');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (country_code 'VN');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (on_uncertain 'pray');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (sms_type '3');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (unicode 'perhaps');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (sandbox 'perhaps');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (brandname '');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (brandname E'A\nB');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (ca_file 'ca.pem');
CREATE SERVER filed FOREIGN DATA WRAPPER esms OPTIONS (ssl_key '/nonexistent/key.pem');
DROP SERVER filed;
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (base_url 'rest.esms.vn');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (base_url 'ftp://rest.esms.vn');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (base_url 'https://user:pw@rest.esms.vn');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (base_url 'https://rest.esms.vn/?a=b');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (base_url 'http://rest.esms.vn');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (base_url 'http://rest.esms.vn', allow_http 'false');
CREATE SERVER x FOREIGN DATA WRAPPER esms OPTIONS (base_url 'http://127.evil.example'); -- no address of this machine
CREATE SERVER plain FOREIGN DATA WRAPPER esms OPTIONS (base_url 'http://rest.esms.vn', allow_http 'true');
ALTER SERVER plain OPTIONS (DROP allow_http);
ALTER SERVER bare OPTIONS (ADD timeout 'soon');
CREATE SERVER x FOREIGN DATA WRAPPER etelecom OPTIONS (routerule '1,4');
CREATE SERVER x FOREIGN DATA WRAPPER etelecom OPTIONS (routerule '1,1');
CREATE SERVER x FOREIGN DATA WRAPPER etelecom OPTIONS (routerule '');
CREATE SERVER x FOREIGN DATA WRAPPER interits OPTIONS (success_codes '200;201');
CREATE SERVER x FOREIGN DATA WRAPPER interits OPTIONS (type 'a');

-- a secret does not come back in an error
CREATE USER MAPPING FOR CURRENT_USER SERVER bare OPTIONS (api_key E'sec\tret');

-- what is for superusers
CREATE ROLE regress_sms_admin;
GRANT USAGE ON FOREIGN DATA WRAPPER esms TO regress_sms_admin;
SET ROLE regress_sms_admin;
CREATE SERVER mine FOREIGN DATA WRAPPER esms OPTIONS (brandname 'x');
ALTER SERVER mine OPTIONS (ADD allow_http 'true');
ALTER SERVER mine OPTIONS (ADD ca_file '/etc/passwd');
RESET ROLE;
SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname IN ('mine', 'omni') ORDER BY 1;
DROP SERVER mine;
DROP OWNED BY regress_sms_admin;
DROP ROLE regress_sms_admin;
DROP EXTENSION sms_gateway CASCADE;

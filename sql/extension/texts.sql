-- Texts.

CREATE FUNCTION sms_parts(content text, unicode bool = NULL, vietnamese bool = false,
                          OUT encoding text, OUT characters int, OUT parts int) RETURNS record
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION sms_parts(text, bool, bool) IS
    'how a text travels: encoding GSM-7 or UCS-2, its characters, and the messages that are billed for it (GSM 03.38: 160, or 153 each, with extension characters counting twice; 70, or 67 each). unicode: true forces UCS-2, false GSM-7, NULL goes by the text. vietnamese: with NULL, counts as the providers of Vietnam do, for whom all that is not ASCII goes as UCS-2. Letters count composed (NFC), as they are sent. All NULL for a NULL text; error 22021 if it is not valid UTF-8';
CREATE FUNCTION sms_unaccent(content text) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sms_unaccent(text) IS
    'Vietnamese without diacritics, the letter d with stroke included, from any normalisation form, and with the quotation marks, dashes and spaces of ASCII; other characters stay. Error 22021 if it is not valid UTF-8';

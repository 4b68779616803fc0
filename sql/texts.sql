-- Texts: parts by GSM 03.38, and Vietnamese without diacritics.
CREATE EXTENSION sms_gateway;
SELECT name, (sms_parts(text)).* FROM (VALUES
    (1, 'empty', ''),
    (2, 'one part of GSM-7', repeat('a', 160)),
    (3, 'two', repeat('a', 161)),
    (4, 'two, full', repeat('a', 306)),
    (5, 'three', repeat('a', 307)),
    (6, 'extension characters count twice', repeat('€', 80)),
    (7, 'one more', repeat('€', 81)),
    (8, 'no escaped character is split', repeat('a', 152) || '{' || repeat('a', 152)),
    (9, 'all of the basic alphabet', '@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&''()*+,-./0123456789:;<=>?¡ÄÖÑÜ§¿äöñüà' || E'\n\r'),
    (10, 'all of the extension table', E'\f^{}\\[~]|€'),
    (11, 'one letter makes it UCS-2', 'Xin chào bạn'),
    (12, 'à is in GSM-7', 'Xin chào'),
    (13, 'one part of UCS-2', repeat('ạ', 70)),
    (14, 'two', repeat('ạ', 71)),
    (15, 'two, full', repeat('ạ', 134)),
    (16, 'three', repeat('ạ', 135)),
    (17, 'beyond the BMP: two units', repeat('😀', 35)),
    (18, 'one more', repeat('😀', 36)),
    (19, 'no pair is split', repeat('ạ', 66) || '😀' || repeat('ạ', 66)),
    (20, 'Vietnamese, counted by hand', 'Đơn hàng 42 của quý khách đã được giao. Cảm ơn quý khách đã mua hàng tại cửa hàng!'),
    (21, 'decomposed: as it is sent', normalize('Đơn hàng 42 của quý khách đã được giao. Cảm ơn quý khách đã mua hàng tại cửa hàng!', NFD))
    ) AS t (n, name, text) ORDER BY n;
-- composed in stretches, which end nowhere in a letter
SELECT n, sms_parts(repeat(t, n)) = sms_parts(normalize(repeat(t, n), NFD)) AS same
    FROM (VALUES ('Đẩy '), ('안녕')) AS t (t), (VALUES (255), (256), (10000)) AS n (n) ORDER BY t, n;
SELECT (sms_parts('abc', true)).*;
SELECT (sms_parts(repeat('ạ', 160), false)).*;
SELECT sms_parts(NULL) IS NULL AS nothing, sms_unaccent(NULL) IS NULL AS neither;

SELECT sms_unaccent('Đơn hàng của quý khách đã được giao. Ỷ, Ằ, ễ, ợ, ự, ỹ; ñ, ä, 漢 and 😀 stay.');
SELECT sms_unaccent(normalize('Tiếng Việt có dấu: ượng ngữ đẩy', NFD)) AS nfd,
       sms_unaccent(normalize('Tiếng Việt có dấu: ượng ngữ đẩy', NFC)) AS nfc;
SELECT (sms_parts(sms_unaccent('Cảm ơn quý khách'))).encoding;

-- the server option unaccent: the row keeps what the user wrote, and counts what is sent
CREATE SERVER shop FOREIGN DATA WRAPPER esms OPTIONS (brandname 'MYSHOP', base_url 'http://127.0.0.1:1', unaccent 'true');
CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'k', secret_key 's');
SELECT sms_pause('shop', 'test');
INSERT INTO sms_outbox (phone, content) VALUES ('0901234567', repeat('ạ', 100)) RETURNING left(content, 3) AS content, parts;
INSERT INTO sms_outbox (phone, content, options) VALUES ('0901234567', repeat('ạ', 100), '{"unaccent": false}') RETURNING parts;
INSERT INTO sms_outbox (phone, content, options) VALUES ('0901234567', repeat('a', 100), '{"unicode": true}') RETURNING parts;
-- a one-time password is counted with a code in the place of {OTP}
INSERT INTO sms_outbox (kind, phone, content, options) VALUES ('otp', '0901234567', '{OTP}' || repeat('a', 154), '{"length": 6}') RETURNING parts;
INSERT INTO sms_outbox (kind, phone, content, options) VALUES ('otp', '0901234567', '{OTP}' || repeat('a', 154), '{"length": 8}') RETURNING parts;
-- As Vietnam's providers count: the line runs behind ASCII, not behind GSM-7.
SELECT (sms_parts('Xin chào')).encoding, (sms_parts('Xin chào', vietnamese => true)).encoding AS vietnamese,
       (sms_parts('`', vietnamese => true)).encoding AS ascii, (sms_parts('ạ', false, true)).encoding AS forced;
SELECT sms_unaccent('“Giá” – 5 tr…');
DROP SERVER shop CASCADE;
DROP EXTENSION sms_gateway;

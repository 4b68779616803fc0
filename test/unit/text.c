/*
 * text.c
 *		The size of texts, Vietnamese without diacritics, and text from the network.
 */
#include "text/text.h"
#include "unit.h"

/* Repeats a piece of text n times. */
static char *
repeat(const char *piece, int n)
{
	char *text = calloc(1, strlen(piece) * (size_t) n + 1);

	for (int i = 0; i < n; i++)
		strcat(text, piece);
	return text;
}

static void
assert_shape(const char *piece, int n, const char *tail, bool ucs2, int characters, int parts)
{
	char *head = repeat(piece, n);
	char *text = calloc(1, strlen(head) + strlen(tail) + 1);
	TextShape shape;

	strcpy(text, head);
	strcat(text, tail);
	assert_true(text_shape(text, strlen(text), CODING_BY_TEXT, &shape));
	assert_int_equal(shape.ucs2, ucs2);
	assert_int_equal(shape.characters, characters);
	assert_int_equal(shape.parts, parts);
	free(head);
	free(text);
}

static void
test_shapes(void **state)
{
	TextShape shape;

	(void) state;
	assert_shape("", 0, "", false, 0, 0);
	assert_shape("a", 160, "", false, 160, 1);
	assert_shape("a", 161, "", false, 161, 2);
	assert_shape("a", 306, "", false, 306, 2);
	assert_shape("a", 307, "", false, 307, 3);
	assert_shape("\xE2\x82\xAC", 80, "", false, 80, 1); /* euro: two septets */
	assert_shape("\xE2\x82\xAC", 81, "", false, 81, 2);
	/* 152 septets and an escaped character do not fit one part of 153 */
	assert_shape("a", 152, "{}{}{}{}{}", false, 162, 2);
	assert_shape("a", 305, "{", false, 306, 3);
	assert_shape("\xE1\xBA\xA1", 70, "", true, 70, 1); /* a with dot below */
	assert_shape("\xE1\xBA\xA1", 71, "", true, 71, 2);
	assert_shape("\xE1\xBA\xA1", 134, "", true, 134, 2);
	assert_shape("\xE1\xBA\xA1", 135, "", true, 135, 3);
	assert_shape("\xF0\x9F\x98\x80", 35, "", true, 35, 1); /* two units each */
	assert_shape("\xF0\x9F\x98\x80", 36, "", true, 36, 2);
	/* 66 units and a surrogate pair do not fit one part of 67 */
	assert_shape("\xE1\xBA\xA1", 133, "\xF0\x9F\x98\x80", true, 134, 3);
	assert_shape("`", 1, "", true, 1, 1);         /* the grave accent is not in GSM-7 */
	assert_shape("\xC3\xA7", 1, "", true, 1, 1);  /* nor the small c with cedilla … */
	assert_shape("\xC3\x87", 1, "", false, 1, 1); /* … but the capital is */
	assert_shape("@$_\xC3\xA0\xCE\xA9", 1, "", false, 5, 1);

	assert_false(text_shape("\xC3", 1, CODING_BY_TEXT, &shape));
	assert_false(text_shape("\xC0\x80", 2, CODING_BY_TEXT, &shape));
	assert_false(text_shape("\xED\xA0\x80", 3, CODING_BY_TEXT, &shape));
	assert_false(text_shape("\xF5\x80\x80\x80", 4, CODING_BY_TEXT, &shape));
}

/* A coding that is asked for, not read off the text. */
static void
test_coding(void **state)
{
	TextShape shape;
	char *long_text = repeat("\xE1\xBA\xA1", 160);

	(void) state;
	assert_true(text_shape("abc", 3, CODING_UCS2, &shape));
	assert_true(shape.ucs2);
	assert_int_equal(shape.units, 3);
	assert_true(text_shape(long_text, strlen(long_text), CODING_GSM7, &shape));
	assert_false(shape.ucs2);
	assert_int_equal(shape.parts, 1);
	free(long_text);

	/* the line of Vietnam's providers runs behind ASCII, not behind GSM-7 */
	assert_true(text_shape("Xin ch\xC3\xA0o", 9, CODING_BY_ASCII, &shape));
	assert_true(shape.ucs2);
	assert_true(text_shape("Xin chao `{}", 12, CODING_BY_ASCII, &shape));
	assert_false(shape.ucs2);
	assert_int_equal(shape.units, 14);
}

static void
test_lines(void **state)
{
	char windows[] = "a\r\nb\rc\n";
	char tab[] = "a\tb";

	(void) state;
	assert_int_equal(text_tidy_lines(windows), 0);
	assert_string_equal(windows, "a\nb\nc\n");
	assert_int_equal(text_tidy_lines(tab), '\t');
	assert_string_equal(tab, "a\tb");
}

static void
assert_unaccent(const char *text, const char *expected)
{
	char buffer[256];

	snprintf(buffer, sizeof(buffer), "%s", text);
	assert_true(text_unaccent(buffer));
	assert_string_equal(buffer, expected);
}

static void
test_unaccent(void **state)
{
	char invalid[] = "\xC3\xA0 \xC3";

	(void) state;
	assert_unaccent("", "");
	assert_unaccent("Order 42", "Order 42");
	assert_unaccent("Tiếng Việt có dấu: Đường đi ướt lắm, khỉ ỷ thế, Ằ Ễ Ợ Ự Ỹ",
					"Tieng Viet co dau: Duong di uot lam, khi y the, A E O U Y");
	/* every letter of the block, capital and small */
	assert_unaccent("ẠạẢảẤấẦầẨẩẪẫẬậẮắẰằẲẳẴẵẶặẸẹẺẻẼẽẾếỀềỂểỄễỆệỈỉỊị",
					"AaAaAaAaAaAaAaAaAaAaAaAaEeEeEeEeEeEeEeEeIiIi");
	assert_unaccent("ỌọỎỏỐốỒồỔổỖỗỘộỚớỜờỞởỠỡỢợỤụỦủỨứỪừỬửỮữỰựỲỳỴỵỶỷỸỹ",
					"OoOoOoOoOoOoOoOoOoOoOoOoUuUuUuUuUuUuUuYyYyYyYy");
	assert_unaccent("ÀÁÂÃÈÉÊÌÍÒÓÔÕÙÚÝàáâãèéêìíòóôõùúýĂăĐđĨĩŨũƠơƯư",
					"AAAAEEEIIOOOOUUYaaaaeeeiioooouuyAaDdIiUuOoUu");
	/* decomposed: e + circumflex + acute; half composed: e-circumflex + dot below; o + horn + grave */
	assert_unaccent("Tie\xCC\x82\xCC\x81ng Vi\xC3\xAA\xCC\xA3t o\xCC\x9B\xCC\x80", "Tieng Viet o");
	/* what is not Vietnamese stays, its combining marks too */
	assert_unaccent("n\xCC\x83 ñ ä € 漢 😀 \xCC\x81", "n\xCC\x83 ñ ä € 漢 😀 \xCC\x81");
	assert_unaccent("“Giá” : 5–7 tr… ‘x’ «y»​﻿!", "\"Gia\" : 5-7 tr... 'x' \"y\"!");
	assert_false(text_unaccent(invalid));
	assert_string_equal(invalid, "\xC3\xA0 \xC3");
}

static void
test_copy(void **state)
{
	char dst[8];

	(void) state;
	utf8_copy(dst, sizeof(dst), "abc", 3);
	assert_string_equal(dst, "abc");
	utf8_copy(dst, sizeof(dst), "abcdefghij", 10);
	assert_string_equal(dst, "abcdefg");
	utf8_copy(dst, sizeof(dst), "abcde\xE1\xBA\xA1", 8);
	assert_string_equal(dst, "abcde");
	utf8_copy(dst, sizeof(dst), "a\0b\xFF\n", 5);
	assert_string_equal(dst, "a b? ");
}

int
run_text_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),   cmocka_unit_test(test_coding), cmocka_unit_test(test_lines),
		cmocka_unit_test(test_unaccent), cmocka_unit_test(test_copy),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}

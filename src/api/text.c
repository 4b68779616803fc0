/*
 * text.c
 *		What users ask about texts.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/args.h"
#include "base/encoding.h"
#include "fmgr.h"
#include "funcapi.h"
#include "text/text.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(sms_parts);
PG_FUNCTION_INFO_V1(sms_unaccent);

static void
refuse_utf8(void)
{
	ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE), errmsg("the text is not valid UTF-8")));
}

/* By the arguments unicode and vietnamese; the function of 0.1.0 has no second. */
static TextCoding
coding_asked_for(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(1))
		return PG_GETARG_BOOL(1) ? CODING_UCS2 : CODING_GSM7;
	return PG_NARGS() > 2 && !PG_ARGISNULL(2) && PG_GETARG_BOOL(2) ? CODING_BY_ASCII : CODING_BY_TEXT;
}

Datum
sms_parts(PG_FUNCTION_ARGS)
{
	TextCoding coding = coding_asked_for(fcinfo);
	TupleDesc desc;
	TextShape shape;
	Datum values[3] = {0};
	bool nulls[3] = {true, true, true};
	char *content;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the return type is not a row type");
	if (!PG_ARGISNULL(0))
	{
		content = to_utf8_composed(text_to_cstring(PG_GETARG_TEXT_PP(0)), "content");
		if (!text_shape(content, strlen(content), coding, &shape))
			refuse_utf8();
		values[0] = CStringGetTextDatum(shape.ucs2 ? "UCS-2" : "GSM-7");
		values[1] = Int32GetDatum(shape.characters);
		values[2] = Int32GetDatum(shape.parts);
		memset(nulls, false, sizeof(nulls));
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
sms_unaccent(PG_FUNCTION_ARGS)
{
	char *content = pstrdup(to_utf8(text_to_cstring(PG_GETARG_TEXT_PP(0)), "content"));

	if (!text_unaccent(content))
		refuse_utf8();
	PG_RETURN_TEXT_P(cstring_to_text(from_utf8(content)));
}

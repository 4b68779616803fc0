/*
 * creator.c
 *		Whose a message is.
 *
 * A row has its role's oid, and the name that the role had when the message was queued.  The oid decides: a role that
 * is renamed keeps its messages, and one that is made anew under an old name gets none.  Oids mean nothing in another
 * cluster, though, and rows come from there, with dumps and subscriptions: of a row that was not made in this database
 * the name has to agree with the oid.  Where it does not, the message is nobody's but the table's owner's, until
 * sms_adopt_outbox() gives it to the role of that name (identity.c).  The policy own_messages says the same in SQL.
 */
#include "postgres.h"

#include "db/creator.h"
#include "db/home.h"
#include "db/sql.h"
#include "miscadmin.h"

/*
 * The role that a message belongs to, by CREATOR_COLUMNS of a row of a result, which begin with "column".  InvalidOid
 * if it is no more, or not known.
 */
Oid
creator_read(int row, int column)
{
	bool isnull;
	Datum creator = sql_datum(row, column, &isnull);
	const char *name = isnull ? NULL : GetUserNameFromId(DatumGetObjectId(creator), true);

	if (name == NULL)
		return InvalidOid;
	if (sql_int64(row, column + 2) != home_origin() && strcmp(name, sql_name(row, column + 1)) != 0)
		return InvalidOid;
	return DatumGetObjectId(creator);
}

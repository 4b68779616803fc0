/*
 * sms_gateway.c
 *		What happens when the library is loaded: each module's own initialisation.
 */
#include "postgres.h"

#include "base/settings.h"
#include "fmgr.h"
#include "gateway/gateway.h"
#include "miscadmin.h"
#include "wake/slot.h"
#include "worker/launcher.h"
#include "worker/room.h"

PG_MODULE_MAGIC;

void _PG_init(void);

/* Called by the server when it loads the library: at its start where that is preloaded, else in a session. */
void
_PG_init(void)
{
	settings_define();
	gateway_init();
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	slot_init();
	room_init();
	launcher_init();
}

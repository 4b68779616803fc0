/*
 * sms_gateway.c
 *		What happens when the library is loaded: each module's own initialisation.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "fmgr.h"
#include "gateway/gateway.h"
#include "miscadmin.h"
#include "wake/slot.h"
#include "worker/launcher.h"
#include "worker/room.h"

COMPAT_MODULE_MAGIC(EXTENSION_NAME, SMS_GATEWAY_VERSION);

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

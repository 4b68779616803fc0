/*
 * engine.h
 *		Drains the outbox.
 */
#ifndef SMS_ENGINE_H
#define SMS_ENGINE_H

#include "postgres.h"

#include "gateway/gateway.h"

extern bool engine_spare_request(const Gateway *gateway, double now, double *again);
extern bool engine_run(bool in_session);
extern bool engine_claimed(int64 id);

#endif /* SMS_ENGINE_H */

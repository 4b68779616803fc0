/*
 * configure.h
 *		From options as users write them to a gateway's fields.
 */
#ifndef SMS_CONFIGURE_H
#define SMS_CONFIGURE_H

#include "gateway/gateway.h"
#include "nodes/pg_list.h"

extern void gateway_configure(Gateway *gateway, List *server_options, List *user_options);

#endif /* SMS_CONFIGURE_H */

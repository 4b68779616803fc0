/*
 * room.h
 *		Makes room for those who want a database alone.
 */
#ifndef SMS_ROOM_H
#define SMS_ROOM_H

extern void room_init(void);

#endif /* SMS_ROOM_H */

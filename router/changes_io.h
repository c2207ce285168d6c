/* router/changes_io.h - the store's change log: tells the sessions of this worker what has become
 * of their streams' claims. */
#ifndef WEIR_ROUTER_CHANGES_IO_H
#define WEIR_ROUTER_CHANGES_IO_H

#include "router/session_io.h"

/* Reads the change log and wakes the sessions concerned. */
void changes_read(struct worker *w);
/* While there is STREAM_TELL to do, some in each turn of the loop: asks for the streams' claims and
 * wakes who is concerned. */
void changes_tell_more(struct worker *w);
/* Every second or less often, when all has been written: players that were not sent where their
 * stream is, and have nothing where they are; all sessions, where a claim could not be read. */
void changes_look_again(struct worker *w);

#endif

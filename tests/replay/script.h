/* tests/replay/script.h - what can happen to a session, as words: the lines of a scenario.
 *
 *   client hello                 C0 C1 C2
 *   client raw HEX
 *   client connect APP | create_stream | publish NAME | play NAME | delete_stream | call NAME
 *   client audio MS BYTES | video MS BYTES | data MS BYTES | buffer | pong | ping | type N BYTES
 *   client chunk_size BYTES
 *   client hold, client send     what it says between them arrives in one piece
 *   client reads BYTES | all     how much of what waits for it it takes; 0: stalls
 *   client ended | reset
 *   placed NODE [epoch N] [wait] [took_over] [publication N] [replay MS] [stays]
 *                                answers to "place"
 *   unplaced WHY
 *   shared                       it may play over a link with others, if it wants nothing special
 *   lead LINE                    happens to the one that plays for it: LINE from here on down
 *   released | taken_over | close WHY
 *   moved NODE [EPOCH PUBLICATION [stays]]      where the stream is: players
 *   nodeI connected [pings] | failed | ended | reset      I: 0 or 1; pings: it is known to answer
 *   nodeI dialled                only now: its turn has come
 *   nodeI hello                  S0 S1 S2
 *   nodeI connect_result | connect_error CODE | stream MSID | status LEVEL CODE
 *   nodeI accepts                hello, connect_result, stream 1
 *   nodeI audio MS BYTES | video MS BYTES | data MS BYTES | begin | eof | ping | pong
 *   nodeI raw HEX | reads BYTES | reads all
 *   follow NODE EPOCH PUBLICATION [planned [stays]]        the stream moves: players
 *   settled                      it has arrived
 *   claim_moved EPOCH            answers "move"
 *   audience ready | behind      answers "audience?"
 *   publisher live | gone        answers "publisher?"
 *   space MS | suspect           between pings on the node link; another link had no answer
 *   others_ended NODE            it has ended the links of other sessions
 *   move CAUSE [NODE]            a planned move
 *   nothing
 *   set rule APP ACTION          one more of access.rules
 *   set signing_key KEY          one more of access.keys
 *   set KEY VALUE                before anything else: retries, buffer, max_moves, vhost, cut,
 * memory */
#ifndef WEIR_TESTS_SCRIPT_H
#define WEIR_TESTS_SCRIPT_H

#include "tests/replay/stage.h"

/* False: not a line of the language. */
bool script_do(struct stage *t, const char *line);
/* Whether it can happen now: peers that are connected, and read. */
bool script_possible(const struct stage *t, const char *line);

#endif

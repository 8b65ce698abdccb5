/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * coroutine.resume and wrap for a VM whose scripts run in tasks, otherwise as Lua's own.
 * A task waits by yielding a value that scripts can't have (tg_wait). When a script's own coroutine
 * does that, inside a task, the wait passes outward through each resume up to the scheduler, and the
 * answer comes back the same way: `tg.sleep` works in any coroutine. A stop of the guard passes
 * outward likewise. Where a resume stands in code that can't yield (a comparison of table.sort),
 * the wait is an error there.
 */
#ifndef TG_COROUTINE_H
#define TG_COROUTINE_H

#include <lua.h>
#include <stdbool.h>

/* Replaces the two in the global table `coroutine`. */
void tg_coroutine_install(lua_State *L);

/* host.wait(): yields the current task; returns what the scheduler resumes it with. */
int tg_wait(lua_State *L);
/* After a resume that yielded `n` values: was it tg_wait? */
bool tg_is_wait(lua_State *co, int n);

#endif

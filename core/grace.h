/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Waits until no packet is under way that began before: after it, nobody reads what was taken out of the
 * datapath's tables earlier. Blocks some 20 ms: in a worker's thread, never in a loop's.
 */
#ifndef TG_GRACE_H
#define TG_GRACE_H

void tg_grace(void);

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
#include "addr.h"
#include "unit.h"

static void text_is_canonical_after_a_round_trip(void)
{
	char text[TG_ENDPOINT_TEXT];
	struct tg_addr addr;

	CHECK_INT(0, tg_addr_parse("2001:DB8:0:0::1", &addr));
	CHECK_STR("2001:db8::1", tg_addr_print(&addr, text));
	CHECK_STR("[2001:db8::1]:80", tg_endpoint_print(&addr, 80, text));
	CHECK_INT(0, tg_addr_parse("10.0.0.1", &addr));
	CHECK_STR("10.0.0.1:65535", tg_endpoint_print(&addr, 65535, text));
}

static void what_is_not_one_address_is_refused(void)
{
	static const char *const bad[] = { "", "10.0.0", "10.0.0.300", "10.0.0.1/8", "::1%lo", "host", " 1.2.3.4" };
	struct tg_addr addr;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK(tg_addr_parse(bad[i], &addr) < 0);
}

int main(void)
{
	RUN(text_is_canonical_after_a_round_trip);
	RUN(what_is_not_one_address_is_refused);
	return unit_result();
}

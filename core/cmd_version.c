/* SPDX-License-Identifier: GPL-2.0-only */
/* tidegate version: this program's, and those of the libraries it runs with. */
#include <bpf/libbpf.h>
#include <lua.h>
#include <stdio.h>
#include <uv.h>

#include "cmd.h"

int tg_cmd_version(int argc, char **argv)
{
	printf("tidegate %s\n%s, libuv %s, libbpf %s\n", TIDEGATE_VERSION, LUA_RELEASE,
		uv_version_string(), libbpf_version_string());
	return TG_EXIT_OK;
}

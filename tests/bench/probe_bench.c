/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The prober alone, for probe.sh to measure: probes TARGETS endpoints (127.1.0.1 onwards, one port)
 * once a second until SIGTERM. Exit 1 when a probe was not answered: its cost would be another's.
 *
 *   probe_bench tcp|http PORT TARGETS
 */
#include "probe.h"
#include "probe_http.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tg_prober *prober;
static struct tg_target **targets;
static int count;

static int add_targets(const char *type, int port)
{
	struct tg_check check = { .type = !strcmp(type, "http") ? TG_CHECK_HTTP : TG_CHECK_TCP,
		.port = port, .interval = 1000000000, .timeout = 500000000, .rise = 2, .fall = 3 };
	char *request = tg_http_request("GET", "/", "bench", NULL);
	struct tg_error error;
	char text[TG_ADDR_TEXT];

	check.request = request;
	for (int i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "127.1.%d.%d", i / 250, i % 250 + 1);
		tg_addr_parse(text, &check.addr);
		targets[i] = tg_prober_add(prober, &check, TG_HEALTH_UP, NULL, NULL, &error);
		if (!targets[i]) {
			fprintf(stderr, "probe_bench: %s\n", error.text);
			return -1;
		}
	}
	free(request);
	return 0;
}

static uint64_t count_failed(void)
{
	uint64_t failed = 0;

	for (int i = 0; i < count; i++) {
		const struct tg_health_status *status = tg_target_status(targets[i]);

		failed += status->failed + status->skipped + !status->ok;
		if (status->failed)
			fprintf(stderr, "probe_bench: target %d: %s\n", i, status->last.reason);
	}
	return failed;
}

static void on_signal(uv_signal_t *handle, int number)
{
	uv_close((uv_handle_t *)handle, NULL);
	uv_stop(handle->loop);
}

int main(int argc, char **argv)
{
	uv_loop_t *loop = uv_default_loop();
	struct tg_error error;
	uv_signal_t end;
	uint64_t failed;

	if (argc != 4) {
		fprintf(stderr, "usage: probe_bench tcp|http PORT TARGETS\n");
		return 2;
	}
	prober = tg_prober_new(loop, &error);
	if (!prober) {
		fprintf(stderr, "probe_bench: %s\n", error.text);
		return 3;
	}
	count = atoi(argv[3]);
	targets = calloc(count, sizeof(*targets));
	if (add_targets(argv[1], atoi(argv[2])) < 0)
		return 3;
	uv_signal_init(loop, &end);
	uv_signal_start(&end, on_signal, SIGTERM);
	uv_run(loop, UV_RUN_DEFAULT);
	failed = count_failed();
	printf("%llu probes, %llu failed\n", (unsigned long long)tg_prober_stats(prober).probes,
		(unsigned long long)failed);
	tg_prober_close(prober, NULL, NULL);
	uv_run(loop, UV_RUN_DEFAULT);
	free(targets);
	return failed > 0;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a restart keeps of lists; and a random schedule of changes and restarts, compared with a model that knows
 * no layers' arrays, only who said what last.
 */
#include "lists_sink.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- restarts ---- */

static char path[] = "/tmp/tidegate-lists.XXXXXX";

/* A new daemon on the tables as they are. */
static int restart(void)
{
	struct held kept[64];
	size_t count = held_count;

	qsort(held, held_count, sizeof(*held), by_prefix);
	memcpy(kept, held, count * sizeof(*held));
	tg_lists_free(lists);
	lists = tg_lists_new(&sink);
	for (size_t i = 0; i < count; i++) {
		struct tg_list_id id = id_of(kept[i].list);
		struct tg_cidr *prefixes = calloc(64, sizeof(*prefixes));
		size_t n = 0;

		for (size_t k = 0; k < i && n == 0; k++)
			n = !strcmp(kept[k].list, kept[i].list);
		if (n) {
			free(prefixes);
			continue;
		}
		for (size_t k = i; k < count; k++)
			if (!strcmp(kept[k].list, kept[i].list)) {
				prefixes[n] = kept[k].prefix;
				prefixes[n].rank = prefixes[n].tag = 0;
				n++;
			}
		CHECK_INT(0, tg_lists_adopt(lists, &id, prefixes, n));
	}
	story[0] = 0;
	return tg_lists_restore(lists, path, &error);
}

static void a_restart_keeps_what_operators_did_what_replaced_and_what_ends(void)
{
	const char *const texts[] = { "timed: 10.9.0.0/16", "deny: 10.0.0.0/8 11.0.0.0/8", NULL };
	struct tg_list_id id = id_of("deny");
	struct tg_cidr prefix = prefix_of("192.0.2.1");
	struct tg_list_entry entry;
	char before[256];

	begin();
	unlink(path);
	CHECK_INT(0, restart());
	commit(draft_of(texts, 600, NULL));
	add_for("deny", "192.0.2.1", &person, 50);
	add("deny", "192.0.2.2", &task);
	remove_one("deny", "11.0.0.0/8", &person);
	replace("feed", "12.0.0.0/8 13.0.0.0/8", 1, &task, 0);
	strcpy(before, "10.0.0.0/8 192.0.2.1");
	CHECK_INT(0, restart());
	CHECK_STR("12.0.0.0/8 13.0.0.0/8", in_sink("feed"));
	now += 20000;
	commit(draft_of(texts, 600, NULL));
	CHECK_STR("remove deny 192.0.2.2\n", story);
	CHECK_STR(before, in_sink("deny"));
	CHECK_STR("12.0.0.0/8 13.0.0.0/8", in_sink("feed"));
	CHECK(tg_lists_find(lists, &id, &prefix, &entry));
	CHECK_INT(now + 30000, entry.expires);
	CHECK_STR("uid 0", entry.who);
	CHECK_INT(now + 30000, tg_lists_expire(lists, now));
	CHECK_INT(now + 580000, tg_lists_expire(lists, now + 30000));
	CHECK_INT(0, restart());
	CHECK_INT(0, commit(EMPTY()));
	CHECK_STR("", in_sink("deny"));
	CHECK_STR("12.0.0.0/8 13.0.0.0/8", in_sink("feed"));
}

static void a_start_that_fails_leaves_the_tables_as_they_were(void)
{
	struct tg_draft *draft;

	begin();
	unlink(path);
	restart();
	commit(DRAFT("deny: 10.0.0.0/8", "gone: 11.0.0.0/8"));
	add("deny", "192.0.2.1", &person);
	restart();
	draft = DRAFT("deny: 12.0.0.0/8");
	CHECK_INT(0, tg_lists_commit(lists, draft, scripts, at_now(), &error));
	CHECK_STR("12.0.0.0/8 192.0.2.1", in_sink("deny"));
	CHECK_INT(0, tg_lists_undo(lists, &error));
	tg_draft_free(draft);
	CHECK_STR("10.0.0.0/8 192.0.2.1", in_sink("deny"));
	CHECK_STR("11.0.0.0/8", in_sink("gone"));
}

static void a_damaged_file_is_left_out(void)
{
	struct stat st;

	begin();
	unlink(path);
	restart();
	commit(EMPTY());
	replace("feed", "12.0.0.0/8 13.0.0.0/8", 1, &person, 0);
	add_for("deny", "192.0.2.1", &person, 50);
	CHECK_INT(0, stat(path, &st));
	CHECK_INT(0600, st.st_mode & 0777);
	for (off_t length = 0; length < st.st_size; length += 7) {
		CHECK_INT(0, truncate(path, st.st_size - 1 - length));
		CHECK_INT(-EBADMSG, restart());
	}
	CHECK_INT(0, commit(DRAFT("deny: 10.0.0.1")));
	CHECK_STR("10.0.0.1", in_sink("deny"));
	CHECK_INT(-1, stat(path, &st)); /* nothing is worth a file any more */
}

/* ---- at random ---- */

#define PREFIXES 24
#define LISTS	 3

/* What somebody last said of a prefix: 0 nothing, 1 there, 2 not there. */
struct opinion {
	int file, replaced, task, person;
	int64_t task_until, person_until; /* 0: no end */
};

static struct opinion model[LISTS][PREFIXES];
static bool model_replaced[LISTS];
static int model_over[LISTS][PREFIXES];
static unsigned int seed;

static bool on_list(int list, int prefix)
{
	const struct opinion *said = &model[list][prefix];

	if (said->person)
		return said->person== 1;
	if (said->task)
		return said->task == 1;
	return model_replaced[list] ? said->replaced : said->file;
}

static const char *const names[LISTS] = { "deny", "feed", "allow" };

static struct tg_cidr nth(int i)
{
	struct tg_cidr prefix = { .family = i % 2 ? 4 : 6, .hi = (uint64_t)(i / 6) << 56 };

	return tg_cidr_cut(&prefix, 8 + i % 3);
}

static void check_model(int step)
{
	for (int list = 0; list < LISTS; list++)
		for (int i = 0; i < PREFIXES; i++) {
			struct tg_cidr prefix = nth(i);
			bool has = find_held(names[list], &prefix) != NULL;

			if (has != on_list(list, i))
				fprintf(stderr, "step %d, %s, prefix %d\n", step, names[list], i);
			CHECK_INT(on_list(list, i), has);
		}
}

static void random_add_or_remove(int list, int i)
{
	const struct tg_list_actor *actor = rand_r(&seed) & 1 ? &task : &person;
	struct opinion *said = &model[list][i];
	int *own = actor == &task ? &said->task : &said->person;
	int64_t *until = actor == &task ? &said->task_until : &said->person_until;
	double ttl = rand_r(&seed) & 1 ? 0 : 1 + rand_r(&seed) % 30;
	bool was = on_list(list, i), barred = actor == &task && said->person;
	struct tg_cidr prefix = nth(i);
	char text[TG_CIDR_TEXT];
	int result;

	tg_cidr_print(&prefix, text);
	if (rand_r(&seed) & 1) {
		result = add_for(names[list], text, actor, ttl);
		CHECK_INT(!barred ? !was : said->person == 2 ? -EPERM : 0, result);
		if (!barred) {
			*own = 1;
			*until = ttl > 0 ? now + (int64_t)(ttl * 1000) : 0;
		}
		return;
	}
	result = remove_one(names[list], text, actor);
	CHECK_INT(barred && was ? -EPERM : was, result);
	if (barred || !was)
		return;
	*own = 0;
	*until = 0;
	if (on_list(list, i))
		*own = 2;
}

static void pass_time(void)
{
	now += rand_r(&seed) % 2000;
	tg_lists_expire(lists, now);
	for (int list = 0; list < LISTS; list++)
		for (int i = 0; i < PREFIXES; i++) {
			struct opinion *said = &model[list][i];

			if (said->task_until && said->task_until <= now)
				said->task = said->task_until = 0;
			if (said->person_until && said->person_until <= now)
				said->person = said->person_until = 0;
		}
}

static void random_replace(int list)
{
	char text[1024] = "";

	for (int i = 0; i < PREFIXES; i++) {
		struct tg_cidr prefix = nth(i);
		char one[TG_CIDR_TEXT];

		model[list][i].replaced = rand_r(&seed) % 3 == 0;
		model_over[list][i] = model[list][i].file;
		if (model[list][i].replaced)
			strcat(strcat(text, " "), tg_cidr_print(&prefix, one));
	}
	model_replaced[list] = true;
	CHECK_INT(0, replace(names[list], text, 0, &task, 0));
	for (int i = 0, any = 0; i < PREFIXES; i++) {
		any |= model[list][i].replaced | model[list][i].file | model[list][i].task |
		       model[list][i].person;
		if (i == PREFIXES - 1 && !any)
			model_replaced[list] = false; /* nothing is left to remember it by */
	}
}

static void random_commit(void)
{
	struct tg_draft *draft = tg_draft_new();
	struct tg_list_terms terms = { 0 };

	for (int list = 0; list < LISTS; list++) {
		struct tg_list_id id = id_of(names[list]);
		int number = tg_draft_list(draft, &id, &error);
		bool anew = rand_r(&seed) & 1, same = true;

		for (int i = 0; i < PREFIXES; i++) {
			struct opinion *said = &model[list][i];
			struct tg_cidr prefix = nth(i);

			if (anew)
				said->file = rand_r(&seed) % 3 == 0;
			if (said->file)
				tg_draft_add(draft, number, &prefix, 1, &terms, NULL, &error);
			same = same && said->file == model_over[list][i];
		}
		if (!same)
			model_replaced[list] = false;
		for (int i = 0; i < PREFIXES; i++) {
			struct opinion *said = &model[list][i];

			said->task = said->task_until = 0;
			if (!model_replaced[list])
				said->replaced = 0;
			if (said->person== 1 && said->file && !model_replaced[list])
				said->person= 0;
			if (said->person==
				2 && !(model_replaced[list] ? said->replaced : said->file))
				said->person= 0;
		}
	}
	CHECK_INT(0, commit(draft));
}

static void a_random_schedule_agrees_with_the_model(void)
{
	for (int round = 0; round < 60; round++) {
		seed = round + 1;
		begin();
		unlink(path);
		restart();
		commit(EMPTY());
		memset(model, 0, sizeof(model));
		memset(model_replaced, 0, sizeof(model_replaced));
		for (int step = 0; step < 200; step++) {
			int what = rand_r(&seed) % 20;

			if (what < 16)
				random_add_or_remove(
					rand_r(&seed) % LISTS, rand_r(&seed) % PREFIXES);
			else if (what < 18)
				random_replace(rand_r(&seed) % LISTS);
			else {
				if (rand_r(&seed) % 3 == 0)
					CHECK_INT(0, restart());
				random_commit();
			}
			pass_time();
			check_model(step);
		}
	}
}

int main(void)
{
	close(mkstemp(path));
	RUN(a_restart_keeps_what_operators_did_what_replaced_and_what_ends);
	RUN(a_start_that_fails_leaves_the_tables_as_they_were);
	RUN(a_damaged_file_is_left_out);
	RUN(a_random_schedule_agrees_with_the_model);
	unlink(path);
	tg_lists_free(lists);
	return unit_result();
}

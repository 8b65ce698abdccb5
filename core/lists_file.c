/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file of what a restart must not lose: operators' entries, contents that replaced what files declare,
 * declared entries that end. Binary, in the host's order, for this machine's next daemon alone: a header,
 * the notes, then each list with its entries as they are in memory.
 */
#include "lists_internal.h"

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC	 "tg-list1"
#define TEXT_MAX 65536

struct file_head {
	char magic[8];
	uint32_t notes, lists;
};

struct file_note {
	double ttl;
	int64_t expires, date;
	uint32_t reason, who; /* bytes that follow; UINT32_MAX: none */
};

struct file_list {
	char name[TG_LIST_NAME];
	uint32_t verdict, replaced;
	uint64_t replaced_over, entries;
	int64_t replaced_date;
	uint64_t replaced_by; /* bytes that follow; UINT32_MAX: none */
};

/* ---- writing ---- */

static bool is_kept(const struct tg_notes *notes, const struct tg_cidr *entry)
{
	return entry->rank == TG_LAYER_OPERATOR || entry->rank == TG_LAYER_REPLACED ||
	       (entry->rank == TG_LAYER_FILE && tg_expiry_of(notes, entry) != TG_NEVER);
}

static size_t kept_of(const struct tg_lists *lists, const struct tg_content *content)
{
	size_t n = 0;

	for (size_t i = 0; i < content->count; i++)
		n += is_kept(&lists->notes, &content->entries[i]);
	return n;
}

static uint32_t length_of(const char *text)
{
	return text ? strlen(text) : UINT32_MAX;
}

static void write_text(FILE *file, const char *text)
{
	if (text)
		fwrite(text, 1, strlen(text), file);
}

/* New numbers for the notes that are kept; returns how many, with the one that is none. */
static uint32_t number_notes(const struct tg_lists *lists, uint32_t *numbers)
{
	uint32_t count = 1;

	for (size_t i = 0; i < lists->count; i++)
		for (size_t k = 0; k < lists->list[i].content.count; k++) {
			const struct tg_cidr *entry = &lists->list[i].content.entries[k];

			if (is_kept(&lists->notes, entry))
				numbers[entry->tag] = 1;
		}
	numbers[0] = 0;
	for (uint32_t i = 1; i < lists->notes.count; i++)
		if (numbers[i])
			numbers[i] = count++;
	return count;
}

static void write_notes(FILE *file, const struct tg_notes *notes, const uint32_t *numbers)
{
	for (uint32_t i = 1; i < notes->count; i++) {
		const struct tg_note *note = &notes->note[i];
		struct file_note out = { note->ttl, note->expires, note->date,
			length_of(note->reason), length_of(note->who) };

		if (!numbers[i])
			continue;
		fwrite(&out, sizeof(out), 1, file);
		write_text(file, note->reason);
		write_text(file, note->who);
	}
}

static void write_list(FILE *file, const struct tg_lists *lists,
	const struct tg_list_record *record, const uint32_t *numbers)
{
	const struct tg_content *content = &record->content;
	struct file_list out = { .verdict = record->id.verdict, .replaced = content->replaced };

	memcpy(out.name, record->id.name, sizeof(out.name));
	out.replaced_over = content->replaced_over;
	out.replaced_date = content->replaced_date;
	out.replaced_by = length_of(content->replaced_by);
	out.entries = kept_of(lists, content);
	fwrite(&out, sizeof(out), 1, file);
	write_text(file, content->replaced_by);
	for (size_t i = 0; i < content->count; i++) {
		struct tg_cidr entry = content->entries[i];

		if (!is_kept(&lists->notes, &entry))
			continue;
		entry.tag = numbers[entry.tag];
		fwrite(&entry, sizeof(entry), 1, file);
	}
}

static int write_all(FILE *file, const struct tg_lists *lists)
{
	struct file_head head = { .lists = lists->count };
	uint32_t *numbers = calloc(lists->notes.count + 1, sizeof(*numbers));

	if (!numbers)
		return -ENOMEM;
	memcpy(head.magic, MAGIC, sizeof(head.magic));
	head.notes = number_notes(lists, numbers);
	fwrite(&head, sizeof(head), 1, file);
	write_notes(file, &lists->notes, numbers);
	for (size_t i = 0; i < lists->count; i++)
		write_list(file, lists, &lists->list[i], numbers);
	free(numbers);
	return ferror(file) ? -EIO : 0;
}

static bool anything_to_keep(const struct tg_lists *lists)
{
	for (size_t i = 0; i < lists->count; i++)
		if (lists->list[i].content.replaced || kept_of(lists, &lists->list[i].content))
			return true;
	return false;
}

/* Beside the old one, which it then takes the place of. */
static int save(const struct tg_lists *lists, const char *fresh)
{
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), result;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file) {
		result = -errno;
		if (fd >= 0)
			close(fd);
		return result;
	}
	result = write_all(file, lists);
	if (fclose(file) && !result)
		result = -errno;
	return result ? result : rename(fresh, lists->path) ? -errno : 0;
}

void tg_lists_save(const struct tg_lists *lists)
{
	char fresh[256];
	int result;

	if (!lists->path)
		return;
	snprintf(fresh, sizeof(fresh), "%s.new", lists->path);
	if (anything_to_keep(lists))
		result = save(lists, fresh);
	else
		result = unlink(lists->path) && errno != ENOENT ? -errno : 0;
	if (!result)
		return;
	unlink(fresh);
	tg_log(TG_LOG_ERROR, "%s can't be written, so a restart would lose changes of lists: %s",
		lists->path, strerror(-result));
}

/* ---- reading ---- */

static bool take(FILE *file, void *to, size_t size)
{
	return fread(to, 1, size, file) == size;
}

/* A text of that length, or none; false: the file is damaged. */
static bool take_text(FILE *file, uint64_t length, char **text)
{
	*text = NULL;
	if (length == UINT32_MAX)
		return true;
	if (length > TEXT_MAX)
		return false;
	*text = calloc(1, length + 1);
	return *text && take(file, *text, length);
}

static bool take_note(FILE *file, struct tg_notes *notes)
{
	struct tg_list_time none = { 0 };
	struct file_note in;
	struct tg_note *note;
	uint32_t number;

	if (!take(file, &in, sizeof(in)))
		return false;
	number = tg_notes_add(notes, 0, NULL, NULL, none);
	if (!number)
		return false;
	note = &notes->note[number];
	note->ttl = in.ttl;
	note->expires = in.expires;
	note->date = in.date;
	return take_text(file, in.reason, &note->reason) && take_text(file, in.who, &note->who);
}

static bool is_sound(const struct tg_content *content, uint32_t notes)
{
	for (size_t i = 0; i < content->count; i++) {
		const struct tg_cidr *entry = &content->entries[i], *before = entry - 1;

		if ((entry->family != 4 && entry->family != 6) ||
			entry->length > tg_cidr_full(entry) || entry->rank > TG_LAYER_OPERATOR ||
			(entry->tag && entry->tag >= notes))
			return false;
		if (i && (tg_cidr_compare(before, entry) > 0 ||
				 (!tg_cidr_compare(before, entry) && before->rank >= entry->rank)))
			return false;
	}
	return true;
}

static bool take_list(FILE *file, size_t size, struct tg_list_record *record, uint32_t notes)
{
	struct tg_content *content = &record->content;
	struct file_list in;

	if (!take(file, &in, sizeof(in)) || in.name[TG_LIST_NAME - 1] ||
		in.verdict > TG_LIST_ALLOW || in.entries > size / sizeof(*content->entries))
		return false;
	memcpy(record->id.name, in.name, sizeof(in.name));
	record->id.verdict = in.verdict;
	content->replaced = in.replaced;
	content->replaced_over = in.replaced_over;
	content->replaced_date = in.replaced_date;
	content->entries = malloc((in.entries + 1) * sizeof(*content->entries));
	content->count = in.entries;
	return content->entries && take_text(file, in.replaced_by, &content->replaced_by) &&
	       take(file, content->entries, in.entries * sizeof(*content->entries)) &&
	       is_sound(content, notes);
}

static bool take_all(struct tg_lists *lists, FILE *file, size_t size)
{
	struct file_head head;

	if (!take(file, &head, sizeof(head)) || memcmp(head.magic, MAGIC, sizeof(head.magic)) ||
		head.lists > 2 * TG_LISTS_MAX || head.notes > size / sizeof(struct file_note) + 1)
		return false;
	for (uint32_t i = 1; i < head.notes; i++)
		if (!take_note(file, &lists->notes))
			return false;
	lists->restored = calloc(head.lists + 1, sizeof(*lists->restored));
	if (!lists->restored)
		return false;
	for (; lists->restored_count < head.lists; lists->restored_count++)
		if (!take_list(file, size, &lists->restored[lists->restored_count], head.notes))
			return false;
	return fgetc(file) == EOF;
}

static void forget_restored(struct tg_lists *lists)
{
	/* the one that was being read is not counted yet */
	tg_records_free(lists->restored, lists->restored ? lists->restored_count + 1 : 0);
	tg_notes_free(&lists->notes);
	lists->restored_count = 0;
	lists->restored = calloc(1, sizeof(*lists->restored));
}

int tg_lists_restore(struct tg_lists *lists, const char *path, struct tg_error *error)
{
	FILE *file = fopen(path, "re");
	struct stat st;
	bool sound;

	lists->path = strdup(path);
	if (!file) {
		lists->restored = calloc(1, sizeof(*lists->restored));
		return errno == ENOENT ? 0
				       : tg_fail(error, -errno, "%s: %s", path, strerror(errno));
	}
	sound = !fstat(fileno(file), &st) && take_all(lists, file, st.st_size);
	fclose(file);
	if (sound)
		return 0;
	forget_restored(lists);
	return tg_fail(error, -EBADMSG,
		"%s is damaged: what operators changed of lists, and what replaced them, is lost",
		path);
}

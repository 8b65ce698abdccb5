/* SPDX-License-Identifier: GPL-2.0-only */
#include "list.h"
#include "table.h"
#include "unit.h"

#define MANY 5000

struct element {
	struct tg_table_node node;
	struct tg_list list;
	uint32_t key;
};

static struct element elements[MANY];

static struct element *find(const struct tg_table *table, uint32_t key, uint32_t hash)
{
	for (struct tg_table_node *node = tg_table_first(table, hash); node; node = tg_table_next(node)) {
		struct element *element = tg_container(node, struct element, node);

		if (element->key == key)
			return element;
	}
	return NULL;
}

/* `same` hashes of each value, so that elements have to be told apart by key. */
static void fill_and_empty(uint32_t same)
{
	struct tg_table table = { 0 };
	int wrong = 0;

	CHECK(!find(&table, 0, 0));
	for (uint32_t i = 0; i < MANY; i++) {
		elements[i].key = i;
		CHECK_INT(0, tg_table_insert(&table, &elements[i].node, i / same));
	}
	CHECK_INT(MANY, table.count);
	for (uint32_t i = 0; i < MANY; i++)
		wrong += find(&table, i, i / same) != &elements[i];
	for (uint32_t i = 0; i < MANY; i += 2)
		tg_table_remove(&table, &elements[i].node);
	for (uint32_t i = 0; i < MANY; i++)
		wrong += find(&table, i, i / same) != (i % 2 ? &elements[i] : NULL);
	CHECK_INT(0, wrong);
	CHECK_INT(MANY / 2, table.count);
	tg_table_free(&table);
}

static void what_was_inserted_is_found_until_it_is_removed(void)
{
	fill_and_empty(1);
}

static void elements_with_the_same_hash_are_kept_apart(void)
{
	fill_and_empty(10);
}

static void hashes_of_neighbouring_addresses_differ(void)
{
	static int bucket[1024];
	int most = 0;

	for (uint32_t i = 0; i < 1024; i++)
		bucket[tg_hash(&i, sizeof(i)) % 1024]++;
	for (int i = 0; i < 1024; i++)
		most = bucket[i] > most ? bucket[i] : most;
	CHECK(most <= 16);
}

static void a_list_gives_back_in_order_what_it_was_given(void)
{
	struct tg_list first, second;
	struct element a, b, c, d;

	tg_list_init(&first);
	tg_list_init(&second);
	tg_list_add(&first, &b.list);
	tg_list_add_first(&first, &a.list);
	tg_list_add(&second, &c.list);
	tg_list_add(&second, &d.list);
	tg_list_splice(&first, &second);
	CHECK(tg_list_empty(&second));
	tg_list_remove(&c.list);
	tg_list_remove(&c.list);	/* does no harm */
	CHECK(tg_list_take(&first) == &a.list);
	CHECK(tg_list_take(&first) == &b.list);
	CHECK(tg_list_take(&first) == &d.list);
	CHECK(!tg_list_take(&first));
}

int main(void)
{
	RUN(what_was_inserted_is_found_until_it_is_removed);
	RUN(elements_with_the_same_hash_are_kept_apart);
	RUN(hashes_of_neighbouring_addresses_differ);
	RUN(a_list_gives_back_in_order_what_it_was_given);
	return unit_result();
}

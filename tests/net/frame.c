/* SPDX-License-Identifier: GPL-2.0-only */
/* frame DEV HEX…: sends Ethernet frames out of a device, for tests/net: what no sound stack would send. */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Returns the number of bytes, 0 if it is no hexadecimal text. */
static size_t read_hex(const char *text, unsigned char *frame, size_t size)
{
	size_t n = 0;
	int used;

	while (*text && n < size && sscanf(text, "%2hhx%n", &frame[n], &used) == 1 && used == 2) {
		text += 2;
		n++;
	}
	return *text ? 0 : n;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	unsigned char frame[2048];

	to.sll_ifindex = argc > 2 ? if_nametoindex(argv[1]) : 0;
	if (fd < 0 || !to.sll_ifindex) {
		fprintf(stderr, "usage: frame DEV HEX…, as root\n");
		return 2;
	}
	for (int i = 2; i < argc; i++) {
		size_t size = read_hex(argv[i], frame, sizeof(frame));

		if (!size || sendto(fd, frame, size, 0, (void *)&to, sizeof(to)) != (ssize_t)size) {
			fprintf(stderr, "frame: %s: %s\n", argv[i],
				size ? strerror(errno) : "not hexadecimal");
			return 1;
		}
	}
	return 0;
}

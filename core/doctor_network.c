/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the network namespace and its devices offer. A device is only asked (netdev netlink, ethtool),
 * never attached to. Kernels before 6.3 don't say whether a driver has native XDP: then a table does.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "doctor.h"

/* <linux/netdev.h> came with 6.3, after Debian 12's headers. */
enum { NETDEV_CMD_DEV_GET = 1 };
enum { NETDEV_A_DEV_IFINDEX = 1, NETDEV_A_DEV_XDP_FEATURES = 3 };
enum { XDP_BASIC = 1, XDP_REDIRECT = 2, XDP_RX_SG = 32 };

#define REPLY_ROOM 8192	/* bytes: a netlink message */

static void finish(struct tg_finding *finding, enum tg_presence presence, tg_doctor_report report,
	void *user)
{
	finding->presence = presence;
	report(finding, user);
}

/* --- sysctls --- */

static enum tg_presence read_switch(const char *path)
{
	FILE *file = fopen(path, "re");
	int value = -1;

	if (!file)
		return errno == ENOENT ? TG_ABSENT : TG_UNKNOWN;
	if (fscanf(file, "%d", &value) != 1)
		value = -1;
	fclose(file);
	return value < 0 ? TG_UNKNOWN : value ? TG_PRESENT : TG_ABSENT;
}

void tg_doctor_network(tg_doctor_report report, void *user)
{
	static const struct {
		const char *name, *path, *sysctl;
	} switches[] = {
		{ "IPv4 forwarding", "/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward" },
		{ "IPv6 forwarding", "/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding" },
	};

	for (size_t i = 0; i < sizeof(switches) / sizeof(*switches); i++) {
		struct tg_finding finding = { .name = switches[i].name,
			.lost = "bpf_fib_lookup and the stack forward nothing: nat and routed backends" };
		enum tg_presence presence = read_switch(switches[i].path);

		if (presence == TG_ABSENT)
			snprintf(finding.note, sizeof(finding.note), "sysctl -w %s=1", switches[i].sysctl);
		finish(&finding, presence, report, user);
	}
}

/* --- ethtool --- */

static int device_ioctl(const char *device, unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", device);
	err = ioctl(fd, request, ifr) ? -errno : 0;
	close(fd);
	return err;
}

static int device_mtu(const char *device)
{
	struct ifreq ifr = { 0 };

	return device_ioctl(device, SIOCGIFMTU, &ifr) ? 0 : ifr.ifr_mtu;
}

static void device_driver(const char *device, char *driver, size_t room)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	struct ifreq ifr = { .ifr_data = (void *)&info };
	int err = device_ioctl(device, SIOCETHTOOL, &ifr);

	snprintf(driver, room, "%s", err ? "" : info.driver);
}

/* Whether a flag of ETHTOOL_GFLAGS (ETH_FLAG_…) is off; unknown where the driver can't say. */
static enum tg_presence flag_is_off(const char *device, unsigned int flag)
{
	struct ethtool_value value = { .cmd = ETHTOOL_GFLAGS };
	struct ifreq ifr = { .ifr_data = (void *)&value };

	if (device_ioctl(device, SIOCETHTOOL, &ifr))
		return TG_UNKNOWN;
	return value.data & flag ? TG_ABSENT : TG_PRESENT;
}

/* --- XDP features by netdev netlink --- */

static int take_number(const struct nlattr *attr, void *data)
{
	uint64_t *wanted = data;	/* [0]: the attribute's type, [1]: its value */

	if (mnl_attr_get_type(attr) != wanted[0])
		return MNL_CB_OK;
	wanted[1] = mnl_attr_get_payload_len(attr) == 2 ? mnl_attr_get_u16(attr) : mnl_attr_get_u64(attr);
	return MNL_CB_STOP;
}

static int take_message(const struct nlmsghdr *message, void *data)
{
	return mnl_attr_parse(message, sizeof(struct genlmsghdr), take_number, data) < 0 ? MNL_CB_ERROR :
										      MNL_CB_OK;
}

static struct nlmsghdr *new_request(char *buffer, uint16_t family, uint8_t command)
{
	struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
	struct genlmsghdr *generic = mnl_nlmsg_put_extra_header(message, sizeof(*generic));

	message->nlmsg_type = family;
	message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	message->nlmsg_seq = time(NULL);
	generic->cmd = command;
	generic->version = 1;
	return message;
}

/* Sends a request and finds the number in attribute `type` of the answer; 0 or a negative errno. */
static int ask(struct nlmsghdr *request, uint16_t type, uint64_t *number)
{
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	uint64_t wanted[2] = { type, 0 };
	char reply[REPLY_ROOM];
	int n = -1;

	if (socket && !mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) &&
		mnl_socket_sendto(socket, request, request->nlmsg_len) >= 0)
		do {
			n = mnl_socket_recvfrom(socket, reply, sizeof(reply));
			n = n < 0 ? n : mnl_cb_run(reply, n, request->nlmsg_seq,
				mnl_socket_get_portid(socket), take_message, wanted);
		} while (n > MNL_CB_STOP);
	n = n < 0 ? -errno : 0;
	if (socket)
		mnl_socket_close(socket);
	*number = wanted[1];
	return n;
}

/* 0, or -ENOENT where the kernel has no such family. */
static int find_family(uint64_t *family)
{
	char buffer[REPLY_ROOM];
	struct nlmsghdr *request = new_request(buffer, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);

	mnl_attr_put_strz(request, CTRL_ATTR_FAMILY_NAME, "netdev");
	return ask(request, CTRL_ATTR_FAMILY_ID, family);
}

/* 0, or -ENOENT before Linux 6.3. */
static int xdp_features(unsigned int ifindex, uint64_t *features)
{
	char buffer[REPLY_ROOM];
	struct nlmsghdr *request;
	uint64_t family;
	int err = find_family(&family);

	if (err)
		return err;
	request = new_request(buffer, family, NETDEV_CMD_DEV_GET);
	mnl_attr_put_u32(request, NETDEV_A_DEV_IFINDEX, ifindex);
	return ask(request, NETDEV_A_DEV_XDP_FEATURES, features);
}

/* Drivers and the first kernel with their native XDP, up to 6.2; 0-filled minor numbers compare right. */
static const struct {
	const char *driver;
	int major, minor;
} native_drivers[] = {
	{ "mlx4_en", 4, 8 }, { "mlx5_core", 4, 9 }, { "nfp", 4, 10 }, { "qede", 4, 10 },
	{ "virtio_net", 4, 10 }, { "bnxt_en", 4, 11 }, { "ixgbe", 4, 12 }, { "nicvf", 4, 12 },
	{ "i40e", 4, 13 }, { "tun", 4, 14 }, { "ixgbevf", 4, 17 }, { "veth", 4, 19 },
	{ "fsl_dpaa2_eth", 5, 0 }, { "netsec", 5, 3 }, { "cpsw", 5, 3 }, { "ice", 5, 5 },
	{ "sfc", 5, 5 }, { "mvneta", 5, 5 }, { "hv_netvsc", 5, 6 }, { "ena", 5, 6 },
	{ "mvpp2", 5, 9 }, { "igb", 5, 10 }, { "igc", 5, 13 }, { "fsl_enetc", 5, 13 },
	{ "st_gmac", 5, 13 }, { "bonding", 5, 15 }, { "rvu-nicpf", 5, 16 }, { "mana", 5, 17 },
	{ "atlantic", 5, 19 }, { "mtk_soc_eth", 6, 0 }, { "fec", 6, 2 },
};

static enum tg_presence native_by_driver(const char *driver)
{
	struct utsname kernel;
	int major, minor;

	if (uname(&kernel) || sscanf(kernel.release, "%d.%d", &major, &minor) != 2)
		return TG_UNKNOWN;
	for (size_t i = 0; i < sizeof(native_drivers) / sizeof(*native_drivers); i++)
		if (!strcmp(driver, native_drivers[i].driver))
			return major * 1000 + minor >=
					native_drivers[i].major * 1000 + native_drivers[i].minor ?
				TG_PRESENT :
				TG_ABSENT;
	return TG_UNKNOWN;
}

/* --- a device's findings --- */

static void report_xdp(const char *device, unsigned int ifindex, tg_doctor_report report, void *user)
{
	struct tg_finding native = { .device = device, .name = "native XDP",
		.lost = "generic XDP instead: several times slower, and it sees merged frames" };
	struct tg_finding jumbo = { .device = device, .name = "native XDP for frames in fragments",
		.lost = "in native mode the MTU has to fit in a page, less headroom" };
	uint64_t bits, needed = XDP_BASIC | XDP_REDIRECT;
	char driver[64];
	int err = xdp_features(ifindex, &bits);

	device_driver(device, driver, sizeof(driver));
	snprintf(native.note, sizeof(native.note), "driver %s, MTU %d", *driver ? driver : "unknown",
		device_mtu(device));
	if (err) {
		finish(&native, native_by_driver(driver), report, user);
		finish(&jumbo, TG_UNKNOWN, report, user);
		return;
	}
	finish(&native, (bits & needed) == needed ? TG_PRESENT : TG_ABSENT, report, user);
	finish(&jumbo, bits & XDP_RX_SG ? TG_PRESENT : TG_ABSENT, report, user);
}

static void report_offload(const char *device, const char *name, unsigned int flag,
	const char *option, const char *lost, tg_doctor_report report, void *user)
{
	struct tg_finding finding = { .device = device, .name = name, .lost = lost };
	enum tg_presence presence = flag_is_off(device, flag);

	if (presence == TG_ABSENT)
		snprintf(finding.note, sizeof(finding.note), "ethtool -K %s %s off", device, option);
	finish(&finding, presence, report, user);
}

void tg_doctor_device(const char *device, tg_doctor_report report, void *user)
{
	unsigned int ifindex = if_nametoindex(device);
	struct tg_finding missing = { .device = device, .name = "the device", .required = true,
		.lost = "there is nothing to attach to" };

	if (!ifindex) {
		snprintf(missing.note, sizeof(missing.note), "no such device in this network namespace");
		finish(&missing, TG_ABSENT, report, user);
		return;
	}
	report_xdp(device, ifindex, report, user);
	report_offload(device, "LRO off", ETH_FLAG_LRO, "lro",
		"native XDP may be refused; merged frames can't be forwarded", report, user);
	report_offload(device, "VLAN tags left in the frame (rxvlan off)", ETH_FLAG_RXVLAN, "rxvlan",
		"native XDP doesn't see the tags of VLAN traffic", report, user);
}

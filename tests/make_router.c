/* Makes images/router.bin: the flash of a router after six days, found with its power lost.
 *
 *     make_router images/router.bin
 *
 * It keeps its settings, the leases of its clients and a status line that is rewritten every half
 * hour, so garbage collection has long been through the older sectors. The last two days hold the
 * story that the README finds out: a tunnel is set up, the network is renumbered in one
 * transaction, a clean-up deletes one key too many, and the power goes while the rules of the
 * firewall are written. Clock and chances are made up, so each run makes the same bytes.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ekv.h"
#include "host/nor.h"

enum { SECTOR_COUNT = 16, WORK_STEPS = 8, TXN_KEYS = 32, SEED = 20261116 };

/* Minutes of the story, from its first midnight on. */
#define AT(day, hour, minute) (((day)*24 + (hour)) * 60 + (minute))
#define BEGIN                 1794787200 /* 2026-11-16 00:00 UTC, a Monday */

enum { MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY };

struct router {
    struct nor nor;
    struct ekv *db;
    struct ekv_txn txn;
    uint32_t table[TXN_KEYS * EKV_TXN_ENTRY_SIZE / sizeof(uint32_t)];
    void *memory;
    size_t memory_size;
    int64_t now; /* microseconds since 1970 */
};

static int64_t router_now(void *context)
{
    struct router *router = context;
    return router->now;
}

static void must(int result, const char *what)
{
    if (result == EKV_OK)
        return;
    fprintf(stderr, "make_router: %s: error %d\n", what, result);
    exit(1);
}

/* --- What a router does ---------------------------------------------------------------------- */

static void boot(struct router *router)
{
    struct ekv_mount_options options = {.now = router_now, .now_context = router};
    must(ekv_mount(&router->db, &router->nor.flash, &options, router->memory, router->memory_size),
         "mount");
}

static void shut_down(struct router *router)
{
    must(ekv_unmount(router->db), "unmount");
}

static void begin(struct router *router)
{
    must(ekv_txn_begin(&router->txn, router->db, router->table, sizeof router->table), "begin");
}

static void set(struct router *router, const char *key, const char *value)
{
    must(ekv_txn_put(&router->txn, ekv_key(key, strlen(key)), value, strlen(value)), key);
}

static void unset(struct router *router, const char *key)
{
    must(ekv_txn_delete(&router->txn, ekv_key(key, strlen(key))), key);
}

static void commit(struct router *router)
{
    must(ekv_txn_commit(&router->txn), "commit");
}

static void put(struct router *router, const char *key, const char *format, ...)
{
    char value[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    must(ekv_put(router->db, ekv_key(key, strlen(key)), value, (size_t)size), key);
}

static void idle(struct router *router)
{
    bool more = true;
    for (int step = 0; step < WORK_STEPS && more; step++)
        must(ekv_work(router->db, &more), "work");
}

/* A binary value: the settings that were made at the factory for the radio. */
static void calibrate(struct router *router)
{
    uint8_t table[180];
    for (size_t i = 0; i < sizeof table; i++)
        table[i] = (uint8_t)(128 + (i * 37 % 23) - (i * i) % 29);
    must(ekv_txn_put(&router->txn, ekv_key("radio/calibration", 17), table, sizeof table), "radio");
}

/* --- The story ------------------------------------------------------------------------------- */

static void first_boot(struct router *router)
{
    begin(router);
    set(router, "hostname", "router");
    set(router, "net/lan/ip", "192.168.1.1");
    set(router, "net/lan/mask", "255.255.255.0");
    set(router, "net/lan/dhcp/first", "192.168.1.100");
    set(router, "net/lan/dhcp/last", "192.168.1.199");
    set(router, "net/wan/proto", "dhcp");
    set(router, "net/dns", "9.9.9.9 149.112.112.112");
    set(router, "wifi/ssid", "router");
    set(router, "wifi/psk", "changeme");
    set(router, "wifi/channel", "auto");
    set(router, "users/admin", "$5$factory$");
    set(router, "firewall/rules", "input drop\nforward drop\noutput accept\n");
    calibrate(router);
    commit(router);
}

static void set_up(struct router *router)
{
    begin(router);
    set(router, "hostname", "harbour-gate");
    set(router, "wifi/ssid", "Harbour office");
    set(router, "wifi/psk", "nine lines of rope");
    set(router, "users/admin", "$5$Qm0hRw$k2mTn7bA0c8w0N3");
    commit(router);
}

static void tunnel(struct router *router)
{
    begin(router);
    set(router, "vpn/office/endpoint", "vpn.example.org:51820");
    set(router, "vpn/office/key", "4JfUvQ0uY5pVx3nS2sWc7kRb9mLz1tHd6gEaXoPqTkI=");
    set(router, "vpn/office/allowed", "172.20.0.0/16");
    set(router, "vpn/guest/endpoint", "guest.example.net:1194");
    set(router, "vpn/guest/key", "bm90IGEgc2VjcmV0IGF0IGFsbCwganVzdCBhIHRlc3Q=");
    commit(router);
}

static void renumber(struct router *router)
{
    begin(router);
    set(router, "net/lan/ip", "10.0.0.1");
    set(router, "net/lan/mask", "255.255.0.0");
    set(router, "net/lan/dhcp/first", "10.0.1.1");
    set(router, "net/lan/dhcp/last", "10.0.1.250");
    commit(router);
}

/* Meant to remove the guests' tunnel, and takes the office's key along. */
static void clean_up(struct router *router)
{
    begin(router);
    unset(router, "vpn/guest/endpoint");
    unset(router, "vpn/guest/key");
    unset(router, "vpn/office/key");
    commit(router);
}

static void lease(struct router *router, int minute, unsigned client)
{
    char key[40];
    bool renumbered = minute >= AT(SATURDAY, 10, 14);
    snprintf(key, sizeof key, "dhcp/3c:7c:3f:1a:%02x:%02x", client * 29 % 256, client * 83 % 256);
    put(router, key, renumbered ? "10.0.1.%u" : "192.168.1.%u", 1 + client * 7 % 99);
}

static void forget(struct router *router, unsigned client)
{
    char key[40];
    snprintf(key, sizeof key, "dhcp/3c:7c:3f:1a:%02x:%02x", client * 29 % 256, client * 83 % 256);
    int error = ekv_delete(router->db, ekv_key(key, strlen(key)));
    must(error == EKV_NOT_FOUND ? EKV_OK : error, key);
}

static void half_hour(struct router *router, int minute)
{
    unsigned round = (unsigned)minute / 30;
    put(router, "status",
        "up %u:%02u\nload 0.%02u 0.%02u 0.11\nwan rx %llu tx %llu errors 0\n"
        "wifi clients %u noise -%u dBm\nlan clients %u\n",
        minute / 60, minute % 60, round * 13 % 60, round * 7 % 40, round * 91370133ull,
        round * 8251907ull, 3 + round % 9, 88 + round % 5, 2 + round % 3);
    if (round % 3 == 0)
        lease(router, minute, round / 3 % 14);
    if (round % 9 == 4)
        forget(router, round / 3 % 14);
    idle(router);
}

static void lose_power_in_the_rules(struct router *router)
{
    static const char rules[] =
        "input drop\ninput accept established\ninput accept from lan tcp 22 443\n"
        "input accept from wan udp 51820\nforward drop\nforward accept established\n"
        "forward accept lan to wan\nforward accept lan to office 172.20.0.0/16\n"
        "forward accept office to lan tcp 445 3389\noutput accept\nlog drop limit 10/minute\n";
    nor_cut_at(&router->nor, 1, NOR_CUT_BYTES);
    if (ekv_put(router->db, ekv_key("firewall/rules", 14), rules, sizeof rules - 1) == EKV_OK) {
        fprintf(stderr, "make_router: the power cut did not come\n");
        exit(1);
    }
    nor_power_on(&router->nor);
}

static const struct event {
    int minute;
    void (*happen)(struct router *router);
} events[] = {
    {AT(MONDAY, 8, 30), first_boot},  {AT(MONDAY, 9, 12), set_up},   {AT(FRIDAY, 18, 5), tunnel},
    {AT(SATURDAY, 10, 14), renumber}, {AT(SUNDAY, 0, 41), clean_up},
};

static void live(struct router *router)
{
    size_t next = 0;
    boot(router);
    for (int minute = AT(MONDAY, 8, 30); minute <= AT(SUNDAY, 3, 7); minute++) {
        router->now = (BEGIN + (int64_t)minute * 60) * 1000000;
        if (next < sizeof events / sizeof *events && events[next].minute == minute)
            events[next++].happen(router);
        else if (minute % 30 == 0)
            half_hour(router, minute);
        if (minute % AT(1, 0, 0) == AT(MONDAY, 4, 0)) { /* restarts each night */
            shut_down(router);
            boot(router);
        }
    }
    lose_power_in_the_rules(router);
}

int main(int argc, char **argv)
{
    static struct router router;
    struct ekv_geometry geometry = {
        .sector_size = 4096, .sector_count = SECTOR_COUNT, .write_unit = 1};
    struct ekv_format_options format = {
        .store_id = 0x726f7574657231u, .label = "router", .blank = true};
    if (argc != 2) {
        fprintf(stderr, "usage: make_router FILE\n");
        return 2;
    }
    router.memory_size = ekv_memory_size(&geometry, NULL);
    router.memory = malloc(router.memory_size);
    if (!router.memory || !nor_init(&router.nor, &geometry, NOR_FRESH, SEED)) {
        fprintf(stderr, "make_router: no memory\n");
        return 1;
    }
    must(ekv_format(&router.nor.flash, &format, router.memory, router.memory_size), "format");
    live(&router);
    bool saved = nor_save(&router.nor, argv[1]);
    if (!saved)
        perror(argv[1]);
    nor_free(&router.nor);
    free(router.memory);
    return !saved;
}

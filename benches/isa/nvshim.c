// Shows Mesa's Vulkan driver for NVIDIA, NVK, a card that is absent, so that its compiler can be used on any machine; nothing is executed.
//
// NVK talks to the kernel's module nouveau through libdrm. Loaded before libdrm (.ci/isa.sh does so), this library answers in its place:
// there is one card, and every request succeeds. The answers are only as good as NVK's creation of devices and pipelines needs.
//
// NVSHIM_CARD: hopper (GH100, as in an H100) or ada (AD102, as in an RTX 4090).
// NVSHIM_FILE: a file to create, which NVK opens and maps in place of /dev/dri/renderD*; its blocks are never allocated.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <xf86drm.h>
#include <nouveau_drm.h>

#define MEMORY (80ull << 30)
#define FILE_BYTES (64ll << 30)
#define PAGE 65536ull

// Chip, PCI device and the classes of its engines, by NVIDIA's published numbers; then its graphics and texture processing clusters.
static const struct card {
    const char *name;
    uint16_t chip, device, compute, graphics, copy;
    uint8_t gpcs, tpcs;
} cards[] = {
    {"hopper", 0x180, 0x2330, 0xcbc0, 0xcb97, 0xc8b5, 8, 66},
    {"ada", 0x192, 0x2684, 0xc9c0, 0xc997, 0xc7b5, 12, 64},
};

static const char *variable(const char *name) {
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "nvshim: %s is not set\n", name);
        exit(2);
    }
    return value;
}

static const struct card *card(void) {
    const char *name = variable("NVSHIM_CARD");
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
        if (!strcmp(name, cards[i].name)) return &cards[i];
    fprintf(stderr, "nvshim: NVSHIM_CARD=%s is none of hopper, ada\n", name);
    exit(2);
}

// ---- The card in the list of devices

static char *node(void) {
    const char *path = variable("NVSHIM_FILE");
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, FILE_BYTES)) {
        perror(path);
        exit(2);
    }
    close(file);
    return strdup(path);
}

static drmDevicePtr device(void) {
    drmDevicePtr device = calloc(1, sizeof *device);
    device->nodes = calloc(DRM_NODE_MAX, sizeof *device->nodes);
    for (int i = 0; i < DRM_NODE_MAX; i++) device->nodes[i] = i == DRM_NODE_RENDER ? node() : "";
    device->available_nodes = 1 << DRM_NODE_RENDER;
    device->bustype = DRM_BUS_PCI;
    device->businfo.pci = calloc(1, sizeof *device->businfo.pci);
    device->deviceinfo.pci = calloc(1, sizeof *device->deviceinfo.pci);
    device->deviceinfo.pci->vendor_id = 0x10de;
    device->deviceinfo.pci->device_id = card()->device;
    return device;
}

int drmGetDevices2(uint32_t flags, drmDevicePtr devices[], int max) {
    if (devices && max > 0) devices[0] = device();
    return 1;
}
int drmGetDevice2(int file, uint32_t flags, drmDevicePtr *out) { *out = device(); return 0; }
int drmGetDeviceFromDevId(dev_t id, uint32_t flags, drmDevicePtr *out) { *out = device(); return 0; }
void drmFreeDevice(drmDevicePtr *device) { *device = NULL; }
void drmFreeDevices(drmDevicePtr devices[], int count) {}

// The first version of nouveau with the requests that NVK uses.
drmVersionPtr drmGetVersion(int file) {
    drmVersionPtr version = calloc(1, sizeof *version);
    *version = (drmVersion){.version_major = 1, .version_minor = 4, .name = "nouveau", .name_len = 7, .date = "", .desc = ""};
    return version;
}
void drmFreeVersion(drmVersionPtr version) { free(version); }
int drmGetCap(int file, uint64_t capability, uint64_t *value) { *value = 1; return 0; }

// ---- Requests to nouveau

static int parameter(struct drm_nouveau_getparam *get) {
    // Newer than libdrm's header.
    enum { EXEC_PUSH_MAX = 17, VRAM_BAR_SIZE = 18, VRAM_USED = 19, HAS_VMA_TILEMODE = 20 };
    switch (get->param) {
    case NOUVEAU_GETPARAM_PCI_VENDOR: get->value = 0x10de; return 0;
    case NOUVEAU_GETPARAM_PCI_DEVICE: get->value = card()->device; return 0;
    case NOUVEAU_GETPARAM_BUS_TYPE: get->value = 2; return 0; // PCI Express
    case NOUVEAU_GETPARAM_FB_SIZE: get->value = MEMORY; return 0;
    case NOUVEAU_GETPARAM_AGP_SIZE: get->value = 1ull << 40; return 0;
    case NOUVEAU_GETPARAM_CHIPSET_ID: get->value = card()->chip; return 0;
    case NOUVEAU_GETPARAM_GRAPH_UNITS: get->value = card()->gpcs | card()->tpcs << 8; return 0;
    case NOUVEAU_GETPARAM_PTIMER_TIME: get->value = 1; return 0;
    case NOUVEAU_GETPARAM_HAS_BO_USAGE: get->value = 1; return 0;
    case NOUVEAU_GETPARAM_HAS_PAGEFLIP: get->value = 1; return 0;
    case EXEC_PUSH_MAX: get->value = 510; return 0;
    case VRAM_BAR_SIZE: get->value = MEMORY; return 0;
    case VRAM_USED: get->value = PAGE; return 0;
    case HAS_VMA_TILEMODE: get->value = 1; return 0;
    default: return -EINVAL;
    }
}

// A call of a method of the kernel's objects: version and kind, then what the kind defines, here the classes of engines and the chip.
static int object(void *data) {
    enum { LIST_CLASSES = 1, CALL_METHOD = 4, METHOD_INFO = 0 };
    struct call {
        uint8_t version, kind, pad[4], owner, route;
        uint64_t token, object;
    } *call = data;
    if (call->kind == LIST_CLASSES) {
        struct {
            uint8_t version, count, pad[6];
            struct { int32_t class; int16_t least, most; } classes[];
        } *list = (void *)(call + 1);
        const int32_t classes[] = {0xa140, card()->copy, 0x902d, card()->graphics, card()->compute};
        const int count = sizeof classes / sizeof *classes;
        for (int i = 0; i < list->count && i < count; i++) list->classes[i].class = classes[i];
        list->count = count;
    } else if (call->kind == CALL_METHOD) {
        struct {
            uint8_t version, method, pad[6];
            struct {
                uint8_t version, platform;
                uint16_t chip;
                uint8_t revision, family, pad[2];
                uint64_t memory, visible_memory;
                char short_name[16], name[64];
            } info;
        } *method = (void *)(call + 1);
        if (method->method == METHOD_INFO) {
            method->info.platform = 3; // PCI Express
            method->info.chip = card()->chip;
            method->info.memory = method->info.visible_memory = MEMORY;
            snprintf(method->info.short_name, sizeof method->info.short_name, "%s", card()->name);
            snprintf(method->info.name, sizeof method->info.name, "NVIDIA %s", card()->name);
        }
    }
    return 0;
}

// Buffers are ranges of the file, one behind the other; the index of a buffer is its handle.
static struct { uint64_t offset, size; } buffers[1 << 16];
static uint32_t next_buffer = 1;
static uint64_t next_offset = PAGE;

static int buffer_of(struct drm_nouveau_gem_info *info) {
    if (info->handle >= next_buffer) return -ENOENT;
    info->offset = info->map_handle = buffers[info->handle].offset;
    info->size = buffers[info->handle].size;
    return 0;
}

static int new_buffer(struct drm_nouveau_gem_info *info) {
    if (next_buffer == sizeof buffers / sizeof *buffers || next_offset + info->size > FILE_BYTES) return -ENOMEM;
    info->handle = next_buffer++;
    buffers[info->handle].offset = next_offset;
    buffers[info->handle].size = info->size;
    next_offset += (info->size + PAGE - 1) / PAGE * PAGE;
    return buffer_of(info);
}

static int request(unsigned long index, void *data) {
    static int channels;
    enum { GET_ZCULL_INFO = 0x13 };
    switch (index) {
    case DRM_NOUVEAU_GETPARAM: return parameter(data);
    case DRM_NOUVEAU_CHANNEL_ALLOC: ((struct drm_nouveau_channel_alloc *)data)->channel = ++channels; return 0;
    case DRM_NOUVEAU_NVIF: return object(data);
    case GET_ZCULL_INFO: return -EINVAL; // optional
    case DRM_NOUVEAU_GEM_NEW: return new_buffer(&((struct drm_nouveau_gem_new *)data)->info);
    case DRM_NOUVEAU_GEM_INFO: return buffer_of(data);
    default: return 0;
    }
}
int drmCommandRead(int file, unsigned long index, void *data, unsigned long size) { return request(index, data); }
int drmCommandWrite(int file, unsigned long index, void *data, unsigned long size) { return request(index, data); }
int drmCommandWriteRead(int file, unsigned long index, void *data, unsigned long size) { return request(index, data); }
int drmIoctl(int file, unsigned long code, void *data) {
    unsigned long number = _IOC_NR(code);
    return number >= DRM_COMMAND_BASE && number < DRM_COMMAND_END ? request(number - DRM_COMMAND_BASE, data) : 0;
}
int drmCloseBufferHandle(int file, uint32_t handle) { return 0; }

// ---- Synchronization: everything that was submitted has ended

int drmSyncobjCreate(int file, uint32_t flags, uint32_t *handle) {
    static uint32_t handles;
    *handle = ++handles;
    return 0;
}
int drmSyncobjDestroy(int file, uint32_t handle) { return 0; }
int drmSyncobjReset(int file, const uint32_t *handles, uint32_t count) { return 0; }
int drmSyncobjSignal(int file, const uint32_t *handles, uint32_t count) { return 0; }
int drmSyncobjTimelineSignal(int file, const uint32_t *handles, uint64_t *points, uint32_t count) { return 0; }
int drmSyncobjWait(int file, uint32_t *handles, unsigned count, int64_t deadline, unsigned flags, uint32_t *first) { return 0; }
int drmSyncobjTimelineWait(int file, uint32_t *handles, uint64_t *points, unsigned count, int64_t deadline, unsigned flags, uint32_t *first) {
    return 0;
}
int drmSyncobjTransfer(int file, uint32_t to, uint64_t to_point, uint32_t from, uint64_t from_point, uint32_t flags) { return 0; }
int drmSyncobjQuery2(int file, uint32_t *handles, uint64_t *points, uint32_t count, uint32_t flags) {
    for (uint32_t i = 0; i < count; i++) points[i] = INT64_MAX;
    return 0;
}

// GPUs for ggml that are none: llama.cpp places a model on them as it would on CUDA devices, and nothing is allocated.
//
// For `llama-fit-params` alone, which loads models without their data. Devices are read from FAKE_GPUS, free and total MiB
// of each one: `7000/8192,11000/12288`. What is said here is what the CUDA backend says of itself: the alignment, the padding of
// quantised rows, which operations it takes over from the host, that it has events and a host buffer.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ggml-backend-impl.h"
#include "ggml-impl.h"
#include "ggml.h"

namespace {

constexpr size_t kAlignment = 128;
constexpr int64_t kRowPadding = 512;
constexpr int64_t kOffloadBatch = 32;
constexpr size_t kMebibyte = 1024 * 1024;

struct Gpu {
    std::string name;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    ggml_backend_buffer_type buffer_type{};
    ggml_backend_device device{};
};

std::vector<Gpu> & gpus() {
    static std::vector<Gpu> all;
    return all;
}

Gpu & gpu_of(ggml_backend_dev_t device) { return *static_cast<Gpu *>(device->context); }

// Buffers: their addresses are made up, and nobody may follow them.
void free_buffer(ggml_backend_buffer_t) {}
void * base(ggml_backend_buffer_t) { return reinterpret_cast<void *>(uintptr_t{1} << 40); }
void set_nothing(ggml_backend_buffer_t, ggml_tensor *, const void *, size_t, size_t) {}
void get_nothing(ggml_backend_buffer_t, const ggml_tensor *, void *, size_t, size_t) {}
void fill_nothing(ggml_backend_buffer_t, ggml_tensor *, uint8_t, size_t, size_t) {}
void clear_nothing(ggml_backend_buffer_t, uint8_t) {}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_i calls{};
    calls.free_buffer = free_buffer;
    calls.get_base = base;
    calls.memset_tensor = fill_nothing;
    calls.set_tensor = set_nothing;
    calls.get_tensor = get_nothing;
    calls.clear = clear_nothing;
    return ggml_backend_buffer_init(type, calls, nullptr, size);
}

const char * buffer_name(ggml_backend_buffer_type_t type) { return static_cast<Gpu *>(type->context)->name.c_str(); }
size_t alignment(ggml_backend_buffer_type_t) { return kAlignment; }

size_t space(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    size_t bytes = ggml_nbytes(tensor);
    if (tensor->op == GGML_OP_FLASH_ATTN_EXT) {
        // Keys and values are copied with 16 bits, unless they have those.
        for (int source : {1, 2}) {
            const ggml_tensor * kept = tensor->src[source];
            if (kept->type != GGML_TYPE_F16) {
                bytes = GGML_PAD(bytes, kAlignment) + ggml_nelements(kept) * sizeof(uint16_t);
            }
        }
    }
    const int64_t rest = tensor->ne[0] % kRowPadding;
    if (ggml_is_quantized(tensor->type) && rest != 0) {
        bytes += ggml_row_size(tensor->type, kRowPadding - rest);
    }
    return bytes;
}

// The host's buffer, as if it were pinned.
const char * host_name(ggml_backend_buffer_type_t) { return "CUDA_Host"; }
ggml_backend_buffer_t allocate_host(ggml_backend_buffer_type_t, size_t size) {
    return ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
}
ggml_backend_buffer_type_t host_buffer_type(ggml_backend_dev_t) {
    static ggml_backend_buffer_type type = [] {
        ggml_backend_buffer_type made{};
        made.iface = ggml_backend_cpu_buffer_type()->iface;
        made.iface.get_name = host_name;
        made.iface.alloc_buffer = allocate_host;
        made.device = &gpus().front().device;
        return made;
    }();
    return &type;
}

// Streams: nothing is ever computed.
const char * stream_name(ggml_backend_t backend) { return gpu_of(backend->device).name.c_str(); }
void free_stream(ggml_backend_t backend) { delete backend; }
void wait_for_nothing(ggml_backend_t) {}
ggml_status compute_nothing(ggml_backend_t, ggml_cgraph *) { return GGML_STATUS_FAILED; }
void record_nothing(ggml_backend_t, ggml_backend_event_t) {}
ggml_guid_t guid() {
    static ggml_guid id = {0x6e, 0x69, 0x78, 0x6d, 0x6f, 0x78, 0x2d, 0x66, 0x61, 0x6b, 0x65, 0x2d, 0x67, 0x70, 0x75, 0x73};
    return &id;
}
ggml_backend_t stream(ggml_backend_dev_t device, const char *) {
    ggml_backend_i calls{};
    calls.get_name = stream_name;
    calls.free = free_stream;
    calls.synchronize = wait_for_nothing;
    calls.graph_compute = compute_nothing;
    calls.event_record = record_nothing;
    calls.event_wait = record_nothing;
    return new ggml_backend{guid(), calls, device, nullptr};
}

// Devices.
const char * name(ggml_backend_dev_t device) { return gpu_of(device).name.c_str(); }
const char * description(ggml_backend_dev_t) { return "none"; }
void memory(ggml_backend_dev_t device, size_t * free_bytes, size_t * total_bytes) {
    *free_bytes = gpu_of(device).free_bytes;
    *total_bytes = gpu_of(device).total_bytes;
}
enum ggml_backend_dev_type kind(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
void properties(ggml_backend_dev_t device, ggml_backend_dev_props * says) {
    says->name = name(device);
    says->description = description(device);
    says->type = kind(device);
    says->device_id = nullptr;
    memory(device, &says->memory_free, &says->memory_total);
    says->caps.async = true;
    says->caps.host_buffer = true;
    says->caps.buffer_from_host_ptr = false;
    says->caps.events = true;
}
ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t device) { return &gpu_of(device).buffer_type; }
bool computes(ggml_backend_dev_t, const ggml_tensor *) { return true; }
bool uses(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) { return type == &gpu_of(device).buffer_type; }
bool takes_over(ggml_backend_dev_t, const ggml_tensor * tensor) {
    switch (tensor->op) {
        case GGML_OP_GET_ROWS:
            return false;
        case GGML_OP_MUL_MAT:
            return tensor->ne[1] >= kOffloadBatch;
        case GGML_OP_MUL_MAT_ID:
        case GGML_OP_ROPE:
        case GGML_OP_ROPE_BACK:
            return tensor->ne[2] >= kOffloadBatch;
        default:
            return ggml_nrows(tensor) >= kOffloadBatch;
    }
}
ggml_backend_event_t event(ggml_backend_dev_t device) { return new ggml_backend_event{device, nullptr}; }
void free_event(ggml_backend_dev_t, ggml_backend_event_t made) { delete made; }
void wait_event(ggml_backend_dev_t, ggml_backend_event_t) {}

// The backend.
const char * backend_name(ggml_backend_reg_t) { return "CUDA"; }
size_t count(ggml_backend_reg_t) { return gpus().size(); }
ggml_backend_dev_t device(ggml_backend_reg_t, size_t index) { return &gpus().at(index).device; }
void * no_function(ggml_backend_reg_t, const char *) { return nullptr; }

void read_gpus(ggml_backend_reg_t backend) {
    const char * says = std::getenv("FAKE_GPUS");
    std::vector<Gpu> & all = gpus();
    for (const char * at = says ? says : ""; *at != '\0';) {
        char * end = nullptr;
        Gpu gpu;
        gpu.free_bytes = std::strtoull(at, &end, 10) * kMebibyte;
        gpu.total_bytes = *end == '/' ? std::strtoull(end + 1, &end, 10) * kMebibyte : gpu.free_bytes;
        gpu.name = "CUDA" + std::to_string(all.size());
        all.push_back(gpu);
        at = *end == ',' ? end + 1 : "";
    }
    for (Gpu & gpu : all) {
        gpu.device.iface = {};
        gpu.device.iface.get_name = name;
        gpu.device.iface.get_description = description;
        gpu.device.iface.get_memory = memory;
        gpu.device.iface.get_type = kind;
        gpu.device.iface.get_props = properties;
        gpu.device.iface.init_backend = stream;
        gpu.device.iface.get_buffer_type = buffer_type;
        gpu.device.iface.get_host_buffer_type = host_buffer_type;
        gpu.device.iface.supports_op = computes;
        gpu.device.iface.supports_buft = uses;
        gpu.device.iface.offload_op = takes_over;
        gpu.device.iface.event_new = event;
        gpu.device.iface.event_free = free_event;
        gpu.device.iface.event_synchronize = wait_event;
        gpu.device.reg = backend;
        gpu.device.context = &gpu;
        gpu.buffer_type.iface = {};
        gpu.buffer_type.iface.get_name = buffer_name;
        gpu.buffer_type.iface.alloc_buffer = allocate;
        gpu.buffer_type.iface.get_alignment = alignment;
        gpu.buffer_type.iface.get_alloc_size = space;
        gpu.buffer_type.device = &gpu.device;
        gpu.buffer_type.context = &gpu;
    }
}

}  // namespace

extern "C" ggml_backend_reg_t ggml_backend_init() {
    static ggml_backend_reg backend = [] {
        ggml_backend_reg made{};
        made.api_version = GGML_BACKEND_API_VERSION;
        made.iface.get_name = backend_name;
        made.iface.get_device_count = count;
        made.iface.get_device = device;
        made.iface.get_proc_address = no_function;
        return made;
    }();
    if (gpus().empty()) {
        read_gpus(&backend);
    }
    return &backend;
}

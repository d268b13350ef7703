/* A stand-in for libnvidia-ml.so.1 that runs under the real nvidia-ml-py. It answers from the text file in FAKE_NVML.

   A line is "KEY VALUE". "N.KEY" is of GPU N, and KEY alone of every GPU. "N.migM.KEY" is of slice M of GPU N, which has
   mig_count of them; what is not given of a slice is "Not Supported". A value "!R" makes the call fail with NVML's
   return code R (nvml.h: nvmlReturn_t), and "hex:.." gives raw bytes.

       gcc -shared -fPIC -o libnvidia-ml.so.1 nvml_stand_in.c
       FAKE_NVML=answers.txt LD_LIBRARY_PATH=$PWD sdbench doctor */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Return;
typedef void *Handle;
enum { SUCCESS, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { LINES = 2000, SLICE = 1000, PROCESSES = 64 };

static char keys[LINES][96], values[LINES][512];
static int line_count = -1;

static void load(void) {
    char *path = getenv("FAKE_NVML"), line[800], *space;
    FILE *file = path ? fopen(path, "r") : 0;
    line_count = 0;
    while (file && line_count < LINES && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (*line == '#' || !(space = strchr(line, ' '))) continue;
        *space = 0;
        snprintf(keys[line_count], sizeof *keys, "%s", line);
        snprintf(values[line_count++], sizeof *values, "%s", space + 1);
    }
    if (file) fclose(file);
}

static const char *get(const char *key) {
    if (line_count < 0) load();
    for (int i = 0; i < line_count; i++)
        if (!strcmp(keys[i], key)) return values[i];
    return 0;
}

/* GPU N is N + 1, its slice M is (N + 1) * SLICE + M. */
static long card_of(Handle handle) { return ((long)handle >= SLICE ? (long)handle / SLICE : (long)handle) - 1; }
static int is_slice(Handle handle) { return (long)handle >= SLICE; }

static Return find(Handle handle, const char *name, const char **value) {
    char key[96];
    if (is_slice(handle))
        snprintf(key, sizeof key, "%ld.mig%ld.%s", card_of(handle), (long)handle % SLICE, name);
    else
        snprintf(key, sizeof key, "%ld.%s", card_of(handle), name);
    *value = get(key);
    if (!*value && !is_slice(handle)) *value = get(name);
    if (!*value) return NOT_SUPPORTED;
    return **value == '!' ? atoi(*value + 1) : SUCCESS;
}
static Return get_long(Handle handle, const char *name, unsigned long long *out) {
    const char *value;
    Return code = find(handle, name, &value);
    if (!code) *out = strtoull(value, 0, 0);
    return code;
}
static Return get_int(Handle handle, const char *name, unsigned *out) {
    unsigned long long value;
    Return code = get_long(handle, name, &value);
    if (!code) *out = (unsigned)value;
    return code;
}
static Return get_text(Handle handle, const char *name, char *out, unsigned size) {
    const char *value;
    unsigned length = 0;
    Return code = find(handle, name, &value);
    if (code) return code;
    if (strncmp(value, "hex:", 4)) {
        snprintf(out, size, "%s", value);
        return SUCCESS;
    }
    for (value += 4; value[0] && value[1] && length + 1 < size; value += 2)
        out[length++] = (char)strtol((char[]){value[0], value[1], 0}, 0, 16);
    out[length] = 0;
    return SUCCESS;
}

Return nvmlInitWithFlags(unsigned flags) {
    const char *value = get("init");
    return value && *value == '!' ? atoi(value + 1) : SUCCESS;
}
Return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
Return nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(Return code) { return code == 26 ? "Requested functionality has been deprecated" : "other"; }
Return nvmlSystemGetDriverVersion(char *out, unsigned size) { return get_text(0, "driver", out, size); }
Return nvmlSystemGetCudaDriverVersion_v2(int *out) { return get_int(0, "cuda", (unsigned *)out); }
Return nvmlDeviceGetCount_v2(unsigned *out) { return get_int(0, "count", out); }

Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *out) {
    char key[96];
    snprintf(key, sizeof key, "%u.handle", index);
    const char *value = get(key);
    *out = (Handle)(long)(index + 1);
    return value && *value == '!' ? atoi(value + 1) : SUCCESS;
}
static unsigned slice_count(long card) {
    unsigned count = 0;
    return get_int((Handle)(card + 1), "mig_count", &count) ? 0 : count;
}
Return nvmlDeviceGetHandleByUUID(const char *uuid, Handle *out) {
    unsigned cards = 0;
    char text[96];
    get_int(0, "count", &cards);
    for (long card = 0; card < cards; card++)
        for (long place = -1; place < (long)slice_count(card); place++) {
            *out = (Handle)(place < 0 ? card + 1 : (card + 1) * SLICE + place);
            if (!get_text(*out, "uuid", text, sizeof text) && !strcmp(text, uuid)) return SUCCESS;
        }
    return NOT_FOUND;
}
Return nvmlDeviceGetMaxMigDeviceCount(Handle h, unsigned *out) { return get_int(h, "mig_count", out); }
Return nvmlDeviceGetMigDeviceHandleByIndex(Handle h, unsigned place, Handle *out) {
    *out = (Handle)((card_of(h) + 1) * SLICE + place);
    return place < slice_count(card_of(h)) ? SUCCESS : NOT_FOUND;
}
Return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle h, Handle *out) {
    *out = (Handle)(card_of(h) + 1);
    return is_slice(h) ? SUCCESS : INVALID_ARGUMENT;
}
typedef struct {
    unsigned multiprocessors, copy, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    unsigned long long memory_mib;
} Attributes;
Return nvmlDeviceGetAttributes_v2(Handle h, Attributes *out) {
    memset(out, 0, sizeof *out);
    return is_slice(h) ? get_int(h, "multiprocessors", &out->multiprocessors) : NOT_SUPPORTED;
}

Return nvmlDeviceGetName(Handle h, char *out, unsigned size) { return get_text(h, "name", out, size); }
Return nvmlDeviceGetUUID(Handle h, char *out, unsigned size) { return get_text(h, "uuid", out, size); }
Return nvmlDeviceGetMemoryInfo(Handle h, unsigned long long *out) {
    unsigned long long reserved = 0;
    Return code = get_long(h, "memory_total", out);
    if (code) return code;
    if (get_long(h, "memory_used", out + 2)) out[2] = 0;
    get_long(h, "memory_reserved", &reserved);
    out[2] += reserved;
    out[1] = out[0] - out[2];
    return SUCCESS;
}
typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} Memory;
Return nvmlDeviceGetMemoryInfo_v2(Handle h, Memory *out) {
    unsigned long long all[3];
    Return code = get_long(h, "memory_reserved", &out->reserved);
    if (code || (code = nvmlDeviceGetMemoryInfo(h, all))) return code;
    out->total = all[0];
    out->free = all[1];
    out->used = all[2] - out->reserved;
    return SUCCESS;
}
Return nvmlDeviceGetBAR1MemoryInfo(Handle h, unsigned long long *out) {
    out[1] = out[2] = 0;
    return get_long(h, "bar1_total", out);
}
Return nvmlDeviceGetCudaComputeCapability(Handle h, int *major, int *minor) {
    const char *value;
    Return code = find(h, "capability", &value);
    if (!code) sscanf(value, "%d.%d", major, minor);
    return code;
}
Return nvmlDeviceGetPciInfo_v3(Handle h, void *out) {
    unsigned id;
    Return code = get_int(h, "pci_device_id", &id);
    if (code) return code;
    memset(out, 0, 68);
    memcpy((char *)out + 28, &id, sizeof id);
    return SUCCESS;
}
Return nvmlDeviceGetNumGpuCores(Handle h, unsigned *out) { return get_int(h, "cores", out); }
Return nvmlDeviceGetClockInfo(Handle h, unsigned kind, unsigned *out) {
    return get_int(h, kind == 1 ? "clock_sm" : "clock_mem", out);
}
Return nvmlDeviceGetMaxClockInfo(Handle h, unsigned kind, unsigned *out) {
    return get_int(h, kind == 1 ? "max_sm" : "max_mem", out);
}
Return nvmlDeviceGetPerformanceState(Handle h, unsigned *out) { return get_int(h, "pstate", out); }
Return nvmlDeviceGetPowerUsage(Handle h, unsigned *out) { return get_int(h, "power_mw", out); }
Return nvmlDeviceGetEnforcedPowerLimit(Handle h, unsigned *out) { return get_int(h, "power_limit_mw", out); }
Return nvmlDeviceGetPowerManagementLimit(Handle h, unsigned *out) { return get_int(h, "power_set_mw", out); }
Return nvmlDeviceGetPowerManagementDefaultLimit(Handle h, unsigned *out) { return get_int(h, "power_default_mw", out); }
Return nvmlDeviceGetTotalEnergyConsumption(Handle h, unsigned long long *out) {
    static unsigned long long drawn;
    Return code = get_long(h, "energy_mj", out);
    if (!code) *out += drawn, drawn += 1000;
    return code;
}
Return nvmlDeviceGetTemperature(Handle h, unsigned sensor, unsigned *out) { return get_int(h, "temperature", out); }
Return nvmlDeviceGetUtilizationRates(Handle h, unsigned *out) {
    out[1] = 0;
    return get_int(h, "utilization", out);
}
Return nvmlDeviceGetCurrentClocksEventReasons(Handle h, unsigned long long *out) { return get_long(h, "reasons", out); }
static Return get_pair(Handle h, const char *name, unsigned *now, unsigned *pending) {
    Return code = get_int(h, name, now);
    *pending = *now;
    return code;
}
Return nvmlDeviceGetEccMode(Handle h, unsigned *now, unsigned *later) { return get_pair(h, "ecc", now, later); }
Return nvmlDeviceGetMigMode(Handle h, unsigned *now, unsigned *later) { return get_pair(h, "mig", now, later); }
Return nvmlDeviceGetPersistenceMode(Handle h, unsigned *out) { return get_int(h, "persistence", out); }
Return nvmlDeviceGetComputeMode(Handle h, unsigned *out) { return get_int(h, "compute_mode", out); }
Return nvmlDeviceGetMaxPcieLinkGeneration(Handle h, unsigned *out) { return get_int(h, "pcie_gen", out); }
Return nvmlDeviceGetMaxPcieLinkWidth(Handle h, unsigned *out) { return get_int(h, "pcie_width", out); }
Return nvmlDeviceGetDisplayMode(Handle h, unsigned *out) { return get_int(h, "display_attached", out); }
Return nvmlDeviceGetDisplayActive(Handle h, unsigned *out) { return get_int(h, "display_active", out); }
Return nvmlDeviceGetTotalEccErrors(Handle h, unsigned kind, unsigned since, unsigned long long *out) {
    return get_long(h, kind ? "ecc_uncorrected" : "ecc_corrected", out);
}
Return nvmlDeviceGetRemappedRows(Handle h, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    *uncorrected = *pending = *failed = 0;
    return get_int(h, "remapped_rows", corrected);
}

typedef struct {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} Process;
/* "PID:BYTES PID:na", or "none". */
static Return list(Handle h, const char *name, unsigned *count, Process *out) {
    const char *value;
    char text[512], *state, *word;
    Process found[PROCESSES];
    unsigned total = 0;
    Return code = find(h, name, &value);
    if (code) return code;
    snprintf(text, sizeof text, "%s", value);
    for (word = strtok_r(text, ", ", &state); word && total < PROCESSES; word = strtok_r(0, ", ", &state)) {
        unsigned pid;
        char used[64] = "na";
        if (sscanf(word, "%u:%63s", &pid, used) < 1) continue;
        found[total++] = (Process){pid, strcmp(used, "na") ? strtoull(used, 0, 0) : ~0ULL, ~0u, ~0u};
    }
    code = total && (!out || *count < total) ? INSUFFICIENT_SIZE : SUCCESS;
    if (!code) memcpy(out, found, total * sizeof *found);
    *count = total;
    return code;
}
Return nvmlDeviceGetComputeRunningProcesses_v3(Handle h, unsigned *count, Process *out) {
    return list(h, "compute_procs", count, out);
}
Return nvmlDeviceGetGraphicsRunningProcesses_v3(Handle h, unsigned *count, Process *out) {
    return list(h, "graphics_procs", count, out);
}

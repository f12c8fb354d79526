// The C interface: which variants this processor runs, and their kernels.

#include "variant.h"

namespace {

[[maybe_unused]] bool always() { return true; }

#if defined(__x86_64__)
[[maybe_unused]] bool has_avx2() { return __builtin_cpu_supports("avx2"); }

[[maybe_unused]] bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

struct Variant {
    const char* name;
    bool (*runs_here)();
    feedback::Kernels (*kernels)();
};

// Those that were built (CMakeLists.txt), the widest first.
const Variant VARIANTS[] = {
#if defined(LANES_avx512)
    {"avx512", has_avx512, feedback::avx512_kernels},
#endif
#if defined(LANES_avx2)
    {"avx2", has_avx2, feedback::avx2_kernels},
#endif
#if defined(LANES_sse2)
    {"sse2", always, feedback::sse2_kernels},
#endif
#if defined(LANES_neon)
    {"neon", always, feedback::neon_kernels},
#endif
};

feedback::Kernels kernels(int number) {
    for (const Variant& variant : VARIANTS)
        if (variant.runs_here() && number-- == 0) return variant.kernels();
    return {};
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// The name of this processor's variant number i, counted from the fastest; null when there are no more.
EXPORT const char* feedback_variant(int i) {
    for (const Variant& variant : VARIANTS)
        if (variant.runs_here() && i-- == 0) return variant.name;
    return nullptr;
}

// Whether there is a kernel of that ggml type.
EXPORT bool feedback_takes(int number, int type) {
    const feedback::Kernels all = kernels(number);
    for (int i = 0; i < all.n; ++i)
        if (all.first[i].type == type) return true;
    return false;
}

EXPORT void feedback_shrink_rows(int number, const float* h, const int32_t* order, float keep, float damping,
                                 int64_t first, const feedback::Factor* f) {
    kernels(number).shrink_rows(h, order, keep, damping, first, *f);
}

EXPORT bool feedback_factor_block(int number, int64_t first, const feedback::Factor* f) {
    return kernels(number).factor_block(*f, first);
}

EXPORT void feedback_factor_strips(int number, int64_t first, int64_t begin, int64_t end, const feedback::Factor* f) {
    kernels(number).factor_strips(*f, first, begin, end);
}

EXPORT void feedback_subtract_block(int number, int64_t first, int64_t above, const feedback::Factor* f) {
    kernels(number).subtract_block(*f, first, above);
}

// Floats of `work` for so many rows.
EXPORT int64_t feedback_work_size(int number, int64_t n, int64_t n_rows) {
    return kernels(number).work_size(n, n_rows);
}

EXPORT void feedback_round_rows(int number, int type, const feedback::Rounding* rounding) {
    const feedback::Kernels all = kernels(number);
    for (int i = 0; i < all.n; ++i)
        if (all.first[i].type == type) all.first[i].round(*rounding);
}

// The C interface: which variants this processor runs, their kernels, and ggml operations: with two of them a graph multiplies
// (quantize activations, then multiply them with weights), others are layers between products.

#include <atomic>
#include <cstddef>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "variant.h"

namespace {

// The beginning of ggml_tensor in the pinned ggml's ggml.h; products/library.py compares the offsets with ggml's own.
struct Tensor {
    int32_t type;
    void* buffer;
    int64_t ne[4];
    size_t nb[4];
    int32_t op, op_params[16], flags;
    Tensor* src[10];
    Tensor* view_src;
    size_t view_offs;
    void* data;
};

const int64_t OFFSETS[] = {offsetof(Tensor, ne), offsetof(Tensor, nb), offsetof(Tensor, src), offsetof(Tensor, data)};

// `Product` of products/library.py: a product in a graph. `weights` are null if the graph computes them. Threads claim runs of
// rows; the last to find none left makes the counters ready for the graph's next run, which no thread begins before all have
// met at the barrier behind the operation.
struct Product {
    const products::Kernel* kernel;
    products::FromFloat from_float;
    const uint8_t* weights;
    int64_t row_bytes, n_rows, row;
    std::atomic<int64_t> claimed, finished;
};

static_assert(sizeof(std::atomic<int64_t>) == 8, "as in products/library.py");

// Rows that a thread claims: a multiple of those of two panels; with few columns five a lane of 512 bits, since with four,
// lanes would often lie a multiple of 4096 bytes apart, and share one set of a cache.
constexpr int64_t RUN = 64, FEW_RUN = 80;

// Pieces of a column.
int64_t pieces_of(const Product& product) {
    return (product.row + product.kernel->weights - 1) / product.kernel->weights;
}

#if defined(__x86_64__)
[[maybe_unused]] bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

[[maybe_unused]] bool has_avx_vnni() {
#if defined(AVX_VNNI_STAND_IN)
    return has_avx2();
#else
    return has_avx2() && __builtin_cpu_supports("avxvnni");
#endif
}

[[maybe_unused]] bool has_avx512_vnni() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
[[maybe_unused]] bool has_neon_dot() { return getauxval(AT_HWCAP) & 1 << 20; }  // HWCAP_ASIMDDP
#endif

struct Variant {
    const char* name;
    bool (*runs_here)();
    products::Kernels (*kernels)();
};

// Those that were built (CMakeLists.txt), the fastest first.
const Variant VARIANTS[] = {
#if defined(PRODUCTS_avx512_vnni)
    {"avx512_vnni", has_avx512_vnni, products::avx512_vnni_kernels},
#endif
#if defined(PRODUCTS_avx_vnni)
    {"avx_vnni", has_avx_vnni, products::avx_vnni_kernels},
#endif
#if defined(PRODUCTS_avx2)
    {"avx2", has_avx2, products::avx2_kernels},
#endif
#if defined(PRODUCTS_neon_dot)
    {"neon_dot", has_neon_dot, products::neon_dot_kernels},
#endif
};

// What that variant of this processor's offers; nothing if it has fewer.
products::Kernels kernels_of(int number) {
    for (const Variant& variant : VARIANTS)
        if (variant.runs_here() && number-- == 0) return variant.kernels();
    return {};
}

// `Layer` of products/layers.py: a layer in a graph. Threads claim its parts as they do those of a product.
struct Layer {
    const products::Layers* layers;
    float scale;
    std::atomic<int64_t> claimed, finished;
};

// Heads of a 4-dimensional tensor of floats, (batch, positions, heads, dim).
struct Heads {
    const Tensor& tensor;

    int64_t floats(int dimension) const { return tensor.nb[dimension] / sizeof(float); }
    const float* at(int64_t batch, int64_t position, int64_t head) const {
        return (const float*)tensor.data + batch * floats(3) + position * floats(2) + head * floats(1);
    }
};

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// The name of this processor's variant number i, counted from the fastest; null when there are no more.
EXPORT const char* products_variant(int i) {
    for (const Variant& variant : VARIANTS)
        if (variant.runs_here() && i-- == 0) return variant.name;
    return nullptr;
}

// The kernel of that variant for a ggml type; null if it has none.
EXPORT const products::Kernel* products_kernel(int number, int type) {
    const products::Kernels kernels = kernels_of(number);
    for (int i = 0; i < kernels.n; ++i)
        if (kernels.first[i].type == type) return kernels.first + i;
    return nullptr;
}

// The layers of that variant; null if there is none.
EXPORT const products::Layers* products_layers(int number) { return kernels_of(number).layers; }

// Where ggml_tensor's ne, nb, src and data are expected.
EXPORT const int64_t* products_offsets() { return OFFSETS; }

// Bytes of `n_columns` quantized columns.
EXPORT int64_t products_columns_bytes(const Product* product, int64_t n_columns) {
    return pieces_of(*product) * n_columns * product->kernel->column_bytes;
}

// src[0], (…, row) floats, each row in one piece → dst, (pieces, columns) of column_bytes.
EXPORT void products_quantize(Tensor* dst, int ith, int nth, void* userdata) {
    const Product& product = *(const Product*)userdata;
    const Tensor& x = *dst->src[0];
    const int64_t n_columns = x.ne[1] * x.ne[2] * x.ne[3], n = pieces_of(product) * n_columns;
    const int64_t weights = product.kernel->weights;
    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; ++i) {
        const int64_t b = i / n_columns, column = i % n_columns, left = product.row - b * weights;
        const char* at = (const char*)x.data + column % x.ne[1] * x.nb[1] + column / x.ne[1] % x.ne[2] * x.nb[2] +
                         column / (x.ne[1] * x.ne[2]) * x.nb[3];
        product.kernel->quantize((const float*)at + b * weights, (int)(left < weights ? left : weights),
                                 product.from_float, (char*)dst->data + i * product.kernel->column_bytes);
    }
}

// src[0], quantized columns, and weights, which are src[1] if the graph computes them → dst, (…, n_rows) floats.
EXPORT void products_multiply(Tensor* dst, int, int nth, void* userdata) {
    Product& product = *(Product*)userdata;
    const uint8_t* weights = product.weights ? product.weights : (const uint8_t*)dst->src[1]->data;
    products::Rows rows = {weights, product.row_bytes, product.n_rows, product.row, 0, 0, 0,
                           dst->ne[1] * dst->ne[2] * dst->ne[3], dst->src[0]->data, (float*)dst->data};
    const bool few = rows.n_columns <= product.kernel->few;
    const auto multiply = few ? product.kernel->multiply_few : product.kernel->multiply;
    const int64_t run = few ? FEW_RUN : RUN;
    for (int64_t first = product.claimed.fetch_add(run); first < rows.n_rows; first = rows.ahead) {
        rows.first = first;
        rows.end = first + run < rows.n_rows ? first + run : rows.n_rows;
        rows.ahead = product.claimed.fetch_add(run);  // early, so that it can be fetched
        multiply(rows);
    }
    if (product.finished.fetch_add(1) + 1 == nth) product.claimed = product.finished = 0;
}

// Attention of src[0], queries, over src[1], keys, and src[2], values, with a mask of halves, src[3], or without → dst. Of all,
// each row of a head is in one piece.
EXPORT void products_attend(Tensor* dst, int, int nth, void* userdata) {
    Layer& layer = *(Layer*)userdata;
    const Heads q{*dst->src[0]}, k{*dst->src[1]}, v{*dst->src[2]};
    const Tensor* mask = dst->src[3];
    const int64_t dim = q.tensor.ne[0], n_heads = q.tensor.ne[1], n = q.tensor.ne[2];
    const int64_t shared = k.tensor.ne[1], heads = n_heads / shared;
    const int64_t queries = heads < products::Attention::MOST_ROWS ? products::Attention::MOST_ROWS / heads : 1;
    const int64_t blocks = (n + queries - 1) / queries, parts = q.tensor.ne[3] * blocks * shared;
    const int64_t masks = mask ? mask->nb[1] / sizeof(uint16_t) : 0;
    for (int64_t i = layer.claimed.fetch_add(1); i < parts; i = layer.claimed.fetch_add(1)) {
        const int64_t head = i % shared, first = i / shared % blocks * queries, batch = i / shared / blocks;
        layer.layers->attend({q.at(batch, first, head * heads), k.at(batch, 0, head), v.at(batch, 0, head),
                mask ? (const uint16_t*)((const char*)mask->data + batch % mask->ne[3] * mask->nb[3]) + first * masks : nullptr,
                (float*)dst->data + ((batch * n + first) * n_heads + head * heads) * dim, dim,
                first + queries < n ? queries : n - first, k.tensor.ne[2], heads, q.floats(2), q.floats(1), k.floats(2),
                v.floats(2), masks, n_heads * dim, layer.scale});
    }
    if (layer.finished.fetch_add(1) + 1 == nth) layer.claimed = layer.finished = 0;
}

// src[0], floats in one piece → dst, as many.
EXPORT void products_gelu(Tensor* dst, int ith, int nth, void* userdata) {
    const Tensor& x = *dst->src[0];
    const int64_t n = x.ne[0] * x.ne[1] * x.ne[2] * x.ne[3], begin = n * ith / nth, end = n * (ith + 1) / nth;
    ((const Layer*)userdata)->layers->gelu((const float*)x.data + begin, (float*)dst->data + begin, end - begin);
}

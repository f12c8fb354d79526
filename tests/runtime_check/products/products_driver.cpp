// Runs every kernel of products.cpp over random blocks, for sanitizers: each buffer is on the heap, not a byte larger than a
// kernel may touch. Rows that are multiplied in two pieces must give the bytes of rows that are multiplied at once. For each
// kernel it prints the variant, the type, and hashes of the products of several columns and of few; for the layers of each
// variant, "layers" and hashes of attention and of GELU.

#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../../../runtime_check/products/kernels/variant.h"

extern "C" {
const char* products_variant(int i);
const products::Kernel* products_kernel(int number, int type);
const products::Layers* products_layers(int number);
}

namespace {

struct Type {
    int number, block, bytes;       // number in ggml_type; weights and bytes of a block
    std::vector<int> halves = {0};  // where its halves lie
};

const Type TYPES[] = {{0, 1, 4, {2}},
                      {1, 1, 2},
                      {30, 1, 2},
                      {2, 32, 18},
                      {3, 32, 20, {0, 2}},
                      {6, 32, 22},
                      {7, 32, 24, {0, 2}},
                      {8, 32, 34},
                      {10, 256, 84, {80, 82}},
                      {11, 256, 110, {108}},
                      {12, 256, 144, {0, 2}},
                      {13, 256, 176, {0, 2}},
                      {14, 256, 210, {208}},
                      {20, 32, 18},
                      {23, 256, 136}};

constexpr int FEW = 4;  // columns, the most that any kernel takes for few

std::mt19937 engine;

// Bytes on the heap, of any values.
std::unique_ptr<uint8_t[]> random_bytes(int64_t n) {
    std::unique_ptr<uint8_t[]> bytes(new uint8_t[n]);
    for (int64_t i = 0; i < n; ++i) bytes[i] = (uint8_t)engine();
    return bytes;
}

// In place of ggml's: blocks of 32 with a scale, and for Q8_1 a sum, that are 1.
template <int HALVES>
void from_float(const float* x, void* blocks, int64_t n) {
    auto* out = (uint8_t*)blocks;
    for (int64_t i = 0; i < n; i += 32) {
        const uint16_t one = 0x3C00;
        for (int half = 0; half < HALVES; ++half, out += 2) memcpy(out, &one, 2);
        for (int j = 0; j < 32; ++j) *out++ = (uint8_t)(int8_t)(x[i + j] * 100);
    }
}

// FNV-1a.
void join(uint64_t& hash, const void* bytes, size_t n) {
    for (size_t i = 0; i < n; ++i) hash = (hash ^ ((const uint8_t*)bytes)[i]) * 0x100000001B3;
}

bool run(const products::Kernel& kernel, const Type& type, int64_t n_rows, int64_t row, int64_t n_columns, uint64_t* hashes) {
    const int64_t pieces = (row + kernel.weights - 1) / kernel.weights, row_bytes = row / type.block * type.bytes;
    const auto weights = random_bytes(n_rows * row_bytes);
    for (int64_t i = 0; i < n_rows * row_bytes; i += type.bytes)
        for (int half : type.halves) weights[i + half + 1] &= 0xBB;  // below 1
    const auto columns = random_bytes(pieces * n_columns * kernel.column_bytes);
    for (int64_t i = 0; i < pieces * n_columns; ++i) {
        const int64_t left = row - i / n_columns * kernel.weights, n = left < kernel.weights ? left : kernel.weights;
        const std::unique_ptr<float[]> x(new float[n]);
        for (int64_t j = 0; j < n; ++j) x[j] = (float)(engine() % 2001) / 1000 - 1;
        kernel.quantize(x.get(), (int)n, kernel.activations == 9 ? from_float<2> : from_float<1>,
                        columns.get() + i * kernel.column_bytes);
    }
    const int64_t half = n_rows / 2;
    std::vector<std::unique_ptr<float[]>> results;
    for (const auto& runs : std::vector<std::vector<int64_t>>{{0, n_rows}, {0, half, n_rows}}) {
        std::unique_ptr<float[]> y(new float[n_rows * n_columns]);
        const auto multiply = n_columns <= kernel.few ? kernel.multiply_few : kernel.multiply;
        for (size_t i = 0; i + 1 < runs.size(); ++i)
            multiply({weights.get(), row_bytes, n_rows, row, runs[i], runs[i + 1], runs[i + 1], n_columns,
                      columns.get(), y.get()});
        results.push_back(std::move(y));
    }
    join(hashes[n_columns <= FEW], results[0].get(), n_rows * n_columns * sizeof(float));
    return memcmp(results[0].get(), results[1].get(), n_rows * n_columns * sizeof(float)) == 0;
}

std::unique_ptr<float[]> random_floats(int64_t n) {
    std::unique_ptr<float[]> x(new float[n]);
    for (int64_t i = 0; i < n; ++i) x[i] = (float)(engine() % 20001) / 2000 - 5;
    return x;
}

// Of rows that lie in one piece, and of some whose end a mask hides from all queries.
void run_attention(const products::Layers& layers, int64_t dim, int64_t queries, int64_t keys, int64_t heads, uint64_t& hash) {
    const int64_t row = heads * dim, n = queries * row;
    const auto q = random_floats(n), k = random_floats(keys * dim), v = random_floats(keys * dim);
    const std::unique_ptr<uint16_t[]> mask(new uint16_t[queries * keys]);
    for (int64_t i = 0; i < queries * keys; ++i) mask[i] = i % keys <= i / keys + keys / 2 ? 0 : 0xFC00;
    for (const uint16_t* hidden : {(const uint16_t*)nullptr, (const uint16_t*)mask.get()}) {
        const std::unique_ptr<float[]> y(new float[n]);
        layers.attend({q.get(), k.get(), v.get(), hidden, y.get(), dim, queries, keys, heads, row, dim, dim, dim, keys, row, 0.25f});
        join(hash, y.get(), n * sizeof(float));
    }
}

void run_layers(const products::Layers& layers, uint64_t* hashes) {
    for (int64_t dim : {16, 48, 256})
        for (int64_t queries : {1, 2, 3, 21})
            for (int64_t heads : {1, 2, 3})
                for (int64_t keys : {1, 15, 64, 130}) run_attention(layers, dim, queries, keys, heads, hashes[0]);
    for (int64_t n : {1, 16, 37, 2003}) {
        const auto x = random_floats(n), y = random_floats(n);
        layers.gelu(x.get(), y.get(), n);
        join(hashes[1], y.get(), n * sizeof(float));
    }
}

void print(int variant, const char* what, const uint64_t* hashes) {
    printf("%s %s %016llx %016llx\n", products_variant(variant), what, (unsigned long long)hashes[0],
           (unsigned long long)hashes[1]);
}

}  // namespace

int main() {
    for (int variant = 0; products_variant(variant); ++variant) {
        uint64_t of_layers[2] = {0, 0};
        engine.seed(0);
        run_layers(*products_layers(variant), of_layers);
        print(variant, "layers", of_layers);
        for (const Type& type : TYPES) {
            const products::Kernel* kernel = products_kernel(variant, type.number);
            if (!kernel) continue;
            uint64_t hashes[2] = {0, 0};
            engine.seed(type.number);
            for (int64_t n_columns : {5, 7, 13, 259, 1, 2, 3, 4})
                for (int64_t n_rows : {1, 17, 32, 83})
                    for (int64_t blocks : {1, 3, 9, 17, 301}) {
                        const int64_t most = (n_columns <= 2 ? 17 : 9) * 256;
                        if ((n_columns > 99 && blocks > 1) || blocks * type.block > most) continue;
                        if (run(*kernel, type, n_rows, blocks * type.block, n_columns, hashes)) continue;
                        fprintf(stderr, "%s, type %d: %d rows, %d blocks, %d columns differ in pieces\n",
                                products_variant(variant), type.number, (int)n_rows, (int)blocks, (int)n_columns);
                        return 1;
                    }
            print(variant, std::to_string(type.number).c_str(), hashes);
        }
    }
    return 0;
}

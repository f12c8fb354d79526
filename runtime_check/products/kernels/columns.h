// Activations in the form in which they are multiplied: ggml quantizes them, as for its own products; then its blocks of
// each column are laid out by super-blocks, with the sums that offsets and minima are multiplied with.

#pragma once

#include "variant.h"
#include "vectors.h"

namespace {

// Q8_K: 256 activations with one scale.
struct SuperColumn {
    int8_t x[SUPER];
    int16_t sums[16];       // of 16 activations
    int16_t pair_sums[8];   // of 32
    float d, unused[3];
};

// Eight blocks of Q8_0 or Q8_1: 32 activations with a scale.
struct FlatColumn {
    int8_t x[SUPER];
    float d[8];
    union {
        int32_t sums[8];  // Q8_0: of 32 activations
        float s[8];       // Q8_1: d × sum, as ggml rounds it
    };
};

static_assert(sizeof(SuperColumn) == 320 && sizeof(FlatColumn) == 320, "as products.cpp allocates them");

struct BlockQ8_K {
    float d;
    int8_t x[SUPER];
    int16_t sums[16];
};
struct BlockQ8_1 {
    uint16_t d, s;
    int8_t x[32];
};

static_assert(sizeof(BlockQ8_K) == 292 && sizeof(BlockQ8_1) == 36, "as in ggml");

inline float widen_half(uint16_t half) { return _cvtsh_ss(half); }

// 256 floats of a column.
inline void quantize_super(const float* x, int n, products::FromFloat from_float, void* column) {
    BlockQ8_K block;
    SuperColumn& out = *(SuperColumn*)column;
    from_float(x, &block, n);
    memcpy(out.x, block.x, sizeof out.x);
    if (block.d == 0) memset(block.sums, 0, sizeof block.sums);  // ggml leaves those of a block of zeros as they were
    memcpy(out.sums, block.sums, sizeof out.sums);
    for (int i = 0; i < 8; ++i) out.pair_sums[i] = (int16_t)(block.sums[2 * i] + block.sums[2 * i + 1]);
    out.d = block.d;
}

// At most 256 floats of a column, a multiple of 32; the others count as 0.
inline void quantize_q8_0(const float* x, int n, products::FromFloat from_float, void* column) {
    BlockQ8_0 blocks[8];
    FlatColumn& out = *(FlatColumn*)column;
    if (n < SUPER) memset(column, 0, sizeof out);
    from_float(x, blocks, n);
    for (int b = 0; b < n / 32; ++b) {
        memcpy(out.x + 32 * b, blocks[b].levels, 32);
        out.d[b] = widen_half(blocks[b].d);
        int sum = 0;
        for (int i = 0; i < 32; ++i) sum += (int8_t)blocks[b].levels[i];
        out.sums[b] = sum;
    }
}

inline void quantize_q8_1(const float* x, int n, products::FromFloat from_float, void* column) {
    BlockQ8_1 blocks[8];
    FlatColumn& out = *(FlatColumn*)column;
    if (n < SUPER) memset(column, 0, sizeof out);
    from_float(x, blocks, n);
    for (int b = 0; b < n / 32; ++b) {
        memcpy(out.x + 32 * b, blocks[b].x, 32);
        out.d[b] = widen_half(blocks[b].d);
        out.s[b] = widen_half(blocks[b].s);
    }
}

}  // namespace

// Activations in the form in which they are multiplied, quantized as ggml quantizes them for its own products, to the last
// bit: to Q8_K here, to Q8_0 and Q8_1 by ggml's own function, which is as fast. Columns are laid out by super-blocks, with
// the sums that offsets and minima are multiplied with.

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

struct BlockQ8_1 {
    uint16_t d, s;
    int8_t x[32];
};

static_assert(sizeof(BlockQ8_1) == 36, "as in ggml");

// The sums of 16 bytes each. The processor sums eight bytes at once if they are unsigned.
inline void sum_bytes(const int8_t* x, int16_t* sums) {
#if defined(__AVX2__)
    alignas(64) uint64_t eights[SUPER / 8];
    for (int i = 0; i < SUPER; i += 32) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i*)(x + i));
        const __m256i positive = _mm256_xor_si256(bytes, _mm256_set1_epi8((char)0x80));
        _mm256_store_si256((__m256i*)(eights + i / 8), _mm256_sad_epu8(positive, _mm256_setzero_si256()));
    }
    for (int i = 0; i < 16; ++i) sums[i] = (int16_t)(eights[2 * i] + eights[2 * i + 1] - 16 * 128);
#elif defined(__aarch64__)
    for (int i = 0; i < 16; ++i) sums[i] = vaddlvq_s8(vld1q_s8(x + 16 * i));
#endif
}

// 256 floats of a column, as quantize_row_q8_K_ref of ggml-quants.c, step by step: the first of the largest absolute
// values gets the level -127, and NaN is not looked at. ggml's is compiled for one float at a time.
inline void quantize_super(const float* x, int, products::FromFloat, void* column) {
    SuperColumn& out = *(SuperColumn*)column;
    Floats some, most = {};
    for (int i = 0; i < SUPER; i += WIDTH) {
        memcpy(&some, x + i, sizeof some);
        most = choose(magnitude(some) > most, magnitude(some), most);
    }
    float absmax = 0;
    for (int i = 0; i < WIDTH; ++i) absmax = most[i] > absmax ? most[i] : absmax;
    if (absmax == 0) {
        memset(column, 0, sizeof out);
        return;
    }
    int first = 0;
    for (; first < SUPER; first += WIDTH) {
        memcpy(&some, x + first, sizeof some);
        if (any(magnitude(some) == broadcast(absmax))) break;
    }
    while (magnitude(x[first]) != absmax) ++first;
    const float inverse = -127.0f / x[first];
    for (int i = 0; i < SUPER; i += WIDTH) {
        memcpy(&some, x + i, sizeof some);
        const Ints levels = ((Ints)(some * inverse + ROUNDER) & SUM_BITS) - SUM_ZERO;
        const Bytes bytes = __builtin_convertvector(least(levels, broadcast(127)), Bytes);
        memcpy(out.x + i, &bytes, sizeof bytes);
    }
    sum_bytes(out.x, out.sums);
    for (int i = 0; i < 8; ++i) out.pair_sums[i] = (int16_t)(out.sums[2 * i] + out.sums[2 * i + 1]);
    out.d = 1 / inverse;
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

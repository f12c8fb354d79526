// Products of Q6_K with one column or two. In 512 bits they are computed row by row: one stream of memory, and a quarter of a
// super-block in a vector. What is transposed are sums, and not levels, whose bits are in two places.

#pragma once

#include "few.h"

namespace {

#if defined(__AVX512VNNI__)

// The sum of the lanes of each of 16 vectors, in the lane with its number.
inline Ints sums_of(const __m512i* each) {
    __m512i pairs[8], fours[4], eights[2];
    for (int i = 0; i < 8; ++i) {
        const __m512i a = each[2 * i], b = each[2 * i + 1];
        pairs[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    }
    for (int i = 0; i < 4; ++i) {
        const __m512i a = pairs[2 * i], b = pairs[2 * i + 1];
        fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    }
    for (int i = 0; i < 2; ++i) {
        const __m512i a = fours[2 * i], b = fours[2 * i + 1];
        eights[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
    }
    return (Ints)_mm512_add_epi32(_mm512_shuffle_i32x4(eights[0], eights[1], 0x88),
                                  _mm512_shuffle_i32x4(eights[0], eights[1], 0xDD));
}

// A super-block: its levels, and their scales, one for each four of them.
struct DecodedQ6_K {
    __m512i levels[4], factors[4], scales;

    [[gnu::always_inline]] explicit DecodedQ6_K(const BlockQ6_K& block) {
        const __m512i low = _mm512_set1_epi8(0x0F), upper = _mm512_set1_epi8(0x30);
        const __m512i left = _mm512_inserti64x4(_mm512_set1_epi32(4), _mm256_set1_epi32(2), 1);     // bits 0, 1; 2, 3
        const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(2), 1);  // 4, 5; 6, 7
        const __m512i sub_blocks = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        scales = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)block.scales));
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const __m512i nibbles = _mm512_loadu_si512(block.nibbles + 64 * half);
            const __m512i pairs = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i*)(block.pairs + 32 * half)));
            levels[2 * half] = (nibbles & low) | (_mm512_sllv_epi32(pairs, left) & upper);
            levels[2 * half + 1] = (_mm512_srli_epi32(nibbles, 4) & low) | (_mm512_srlv_epi32(pairs, right) & upper);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i)
            factors[i] = _mm512_permutexvar_epi32(_mm512_add_epi32(sub_blocks, _mm512_set1_epi32(4 * i)), scales);
    }

    // 16 summands of Σ scale·(level − 32)·x.
    [[gnu::always_inline]] __m512i dot(const SuperColumn& x) const {
        const __m512i sums = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i*)x.sums));
        __m512i total = _mm512_slli_epi32(_mm512_mullo_epi32(scales, sums), 5);
        total = _mm512_sub_epi32(_mm512_setzero_si512(), total);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const __m512i dots = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels[i], _mm512_loadu_si512(x.x + 64 * i));
            total = _mm512_add_epi32(total, _mm512_mullo_epi32(dots, factors[i]));
        }
        return total;
    }
};

// 16 super-blocks at once; floats are summed in their order.
template <int N>
void multiply_rows_q6_k(const products::Rows& rows) {
    const int64_t supers = rows.row / SUPER;
    const auto* columns = (const SuperColumn*)rows.columns;
    for (int64_t row = rows.first; row < rows.end; ++row) {
        const auto* blocks = (const BlockQ6_K*)(rows.weights + row * rows.row_bytes);
        float y[N] = {};
        for (int64_t first = 0; first < supers; first += 16) {
            const int n_blocks = supers - first < 16 ? (int)(supers - first) : 16;
            __m512i each[N][16] = {};
            float d[16], totals[16];
            for (int i = 0; i < n_blocks; ++i) {
                const DecodedQ6_K block(blocks[first + i]);
                d[i] = widen_half(blocks[first + i].d);
                for (int n = 0; n < N; ++n) each[n][i] = block.dot(columns[(first + i) * N + n]);
            }
            for (int n = 0; n < N; ++n) {
                store(totals, to_floats(sums_of(each[n])));
                for (int i = 0; i < n_blocks; ++i)
                    y[n] = __builtin_fmaf(d[i] * columns[(first + i) * N + n].d, totals[i], y[n]);
            }
        }
        for (int n = 0; n < N; ++n) rows.y[n * rows.n_rows + row] = y[n];
    }
}

#endif

inline void multiply_few_q6_k(const products::Rows& rows) {
#if defined(__AVX512VNNI__)
    if (rows.n_columns == 1) return multiply_rows_q6_k<1>(rows);
    multiply_rows_q6_k<2>(rows);
#else
    multiply_few<Q6_K>(rows);
#endif
}

}  // namespace

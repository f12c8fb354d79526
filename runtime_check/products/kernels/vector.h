// Products with a single column, straight from the blocks: bound by memory, not by the processor. Vectors hold 64 levels of
// one row, four in each lane, in the order of the weights.

#pragma once

#include "fetch.h"
#include "types.h"

namespace {

#if defined(__AVX512VNNI__)

constexpr int AT_ONCE = 4;  // rows that are multiplied at once

typedef const uint8_t* RowsAt[AT_ONCE];  // where each row begins

// Of each row, over all lanes; of the minima of super-blocks, four lanes a row, which are subtracted; and of those of
// blocks of 32.
struct Sums {
    __m512 rows[AT_ONCE], mins;
    float added[AT_ONCE];
};

// 64 levels of four bits: the lower nibbles of 32 bytes, then the upper ones.
inline __m512i both_nibbles(const uint8_t* bytes) {
    const __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i*)bytes));
    const __m512i shifts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
    return _mm512_and_si512(_mm512_srlv_epi16(twice, shifts), _mm512_set1_epi8(15));
}

// The lower nibbles of 16 bytes, then the upper ones; and those of 16 others behind them.
inline __m512i spread_nibbles(const uint8_t* first, const uint8_t* second) {
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)first));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)second));
    const __m512i shifts = _mm512_setr_epi64(0, 0, 0x0004000400040004, 0x0004000400040004, 0, 0, 0x0004000400040004,
                                             0x0004000400040004);
    const __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    return _mm512_and_si512(_mm512_srlv_epi16(all, shifts), _mm512_set1_epi8(15));
}

// NONLINEAR levels, shifted by 128, of indices.
inline __m512i nonlinear(__m512i indices) { return (__m512i)store_signed(look_up(NONLINEAR, (Ints)indices)); }

// `low` in the lower half, `high` in the upper.
inline __m512 halves_of(float low, float high) {
    return _mm512_insertf32x8(_mm512_set1_ps(low), _mm256_set1_ps(high), 1);
}

// The same bits of 32 bytes twice: those from `low` on in the lower half, from `high` on in the upper.
inline __m512i shifted_twice(__m512i twice, int low, int high) {
    const __m512i shifts = _mm512_inserti64x4(_mm512_set1_epi16((short)low), _mm256_set1_epi16((short)high), 1);
    return _mm512_srlv_epi16(twice, shifts);
}

constexpr int CHOOSE = 0xCA;  // bits of b where those of a are set, else of c

// Lanes of 64 weights → their sub-blocks, of N weights each, from the sub-block number `first` on.
template <int N>
inline __m512i sub_blocks(int first) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(_mm512_srli_epi32(lanes, N == 16 ? 2 : 3), _mm512_set1_epi32(first));
}

inline __m512i dot(__m512i sum, __m512i levels, const int8_t* x) {
    return _mm512_dpbusd_epi32(sum, levels, _mm512_loadu_si512(x));
}

// Four rows of Q4_K or Q5_K: sums of each, and those of the minima, four lanes a row. levels_of(row, i) are the levels
// number 64 i and on.
template <class LevelsOf>
inline void join_with_mins(const RowsAt& at, int64_t offset, const SuperColumn& x, Sums& sums, LevelsOf levels_of) {
    __m128i head[AT_ONCE];
    for (int r = 0; r < AT_ONCE; ++r) head[r] = _mm_loadu_si128((const __m128i*)(at[r] + offset));
    const __m128i low01 = _mm_unpacklo_epi32(head[0], head[1]), low23 = _mm_unpacklo_epi32(head[2], head[3]);
    const __m128i high01 = _mm_unpackhi_epi32(head[0], head[1]), high23 = _mm_unpackhi_epi32(head[2], head[3]);
    const __m128i halves = _mm_unpacklo_epi64(low01, low23), a = _mm_unpackhi_epi64(low01, low23);
    const __m128i b = _mm_unpacklo_epi64(high01, high23), c = _mm_unpackhi_epi64(high01, high23);
    const __m128i six = _mm_set1_epi32(0x3F3F3F3F), nibble = _mm_set1_epi32(LOW_NIBBLES);
    const __m128i pair = _mm_set1_epi32(UPPER_PAIRS);
    const __m128i scales_low = _mm_and_si128(a, six), mins_low = _mm_and_si128(b, six);
    const __m128i scales_high = _mm_or_si128(_mm_and_si128(c, nibble), _mm_and_si128(_mm_srli_epi32(a, 2), pair));
    const __m128i mins_high = _mm_or_si128(
        _mm_and_si128(_mm_srli_epi32(c, 4), nibble), _mm_and_si128(_mm_srli_epi32(b, 2), pair));
    const __m512i scales[2] = {_mm512_cvtepu8_epi32(_mm_unpacklo_epi32(scales_low, scales_high)),
                               _mm512_cvtepu8_epi32(_mm_unpackhi_epi32(scales_low, scales_high))};
    const __m256i mins = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_unpacklo_epi32(mins_low, mins_high)), _mm_unpackhi_epi32(mins_low, mins_high), 1);
    const __m512i x_sums = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)x.pair_sums));
    const __m512i min_sums = _mm512_madd_epi16(_mm512_cvtepu8_epi16(mins), x_sums);
    // d of each row, then dmin of each.
    const __m128i in_order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    const __m512 d = _mm512_zextps256_ps512(
        _mm256_mul_ps(_mm256_cvtph_ps(_mm_shuffle_epi8(halves, in_order)), _mm256_set1_ps(x.d)));
    const __m512i quarters = _mm512_setr_epi32(4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
    sums.mins = _mm512_fmadd_ps(_mm512_permutexvar_ps(quarters, d), _mm512_cvtepi32_ps(min_sums), sums.mins);
#pragma GCC unroll 4
    for (int r = 0; r < AT_ONCE; ++r) {
        __m512i total = _mm512_setzero_si512();
        for (int i = 0; i < 4; ++i) {
            const __m512i scale = _mm512_permutexvar_epi32(sub_blocks<32>(2 * i + r % 2 * 8), scales[r / 2]);
            total = _mm512_add_epi32(
                total, _mm512_mullo_epi32(dot(_mm512_setzero_si512(), levels_of(r, i), x.x + 64 * i), scale));
        }
        sums.rows[r] = _mm512_fmadd_ps(
            _mm512_permutexvar_ps(_mm512_set1_epi32(r), d), _mm512_cvtepi32_ps(total), sums.rows[r]);
    }
}

struct VectorQ4_K {
    using Block = BlockQ4_K;
    using Column = SuperColumn;

    static void join(const RowsAt& at, int64_t offset, const Column& x, Sums& sums, int) {
        join_with_mins(at, offset, x, sums, [&](int r, int i) {
            return both_nibbles(at[r] + offset + offsetof(Block, nibbles) + 32 * i);
        });
    }
};

struct VectorQ5_K {
    using Block = BlockQ5_K;
    using Column = SuperColumn;

    static void join(const RowsAt& at, int64_t offset, const Column& x, Sums& sums, int) {
        join_with_mins(at, offset, x, sums, [&](int r, int i) {
            const uint8_t* block = at[r] + offset;
            const __m512i fifth = _mm512_broadcast_i64x4(
                _mm256_loadu_si256((const __m256i*)(block + offsetof(Block, fifth_bits))));
            const __m512i bits = _mm512_and_si512(shifted_twice(fifth, 2 * i, 2 * i + 1), _mm512_set1_epi8(1));
            return _mm512_or_si512(
                both_nibbles(block + offsetof(Block, nibbles) + 32 * i), _mm512_slli_epi16(bits, 4));
        });
    }
};

struct VectorQ6_K {
    using Block = BlockQ6_K;
    using Column = SuperColumn;

    static void join(const RowsAt& at, int64_t offset, const Column& x, Sums& sums, int) {
#pragma GCC unroll 4
        for (int r = 0; r < AT_ONCE; ++r) sums.rows[r] = join(at[r] + offset, x, sums.rows[r]);
    }

    static __m512 join(const uint8_t* block, const Column& x, __m512 sums) {
        const __m128i bytes = _mm_loadu_si128((const __m128i*)(block + offsetof(Block, scales)));
        const __m512i scales = _mm512_cvtepi8_epi32(bytes);
        const __m256i offsets = _mm256_madd_epi16(
            _mm256_cvtepi8_epi16(bytes), _mm256_loadu_si256((const __m256i*)x.sums));
        __m512i total = _mm512_zextsi256_si512(_mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(offsets, 5)));
        const __m512i nibble = _mm512_set1_epi8(15), pair = _mm512_set1_epi8(0x30);
        const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
        for (int half = 0; half < 2; ++half) {
            const __m512i low = _mm512_loadu_si512(block + offsetof(Block, nibbles) + 64 * half);
            const __m512i pairs = _mm512_broadcast_i64x4(
                _mm256_loadu_si256((const __m256i*)(block + offsetof(Block, pairs) + 32 * half)));
            const __m512i raised = _mm512_sllv_epi16(pairs, left);
            for (int upper = 0; upper < 2; ++upper) {
                const __m512i bits = _mm512_and_si512(upper ? shifted_twice(pairs, 0, 2) : raised, pair);
                const __m512i four = upper ? _mm512_srli_epi16(low, 4) : low;
                const int i = 2 * half + upper;
                const __m512i levels = _mm512_ternarylogic_epi32(nibble, four, bits, CHOOSE);
                const __m512i sum = dot(_mm512_setzero_si512(), levels, x.x + 64 * i);
                const __m512i scale = _mm512_permutexvar_epi32(sub_blocks<16>(4 * i), scales);
                total = _mm512_add_epi32(total, _mm512_mullo_epi32(sum, scale));
            }
        }
        uint16_t d;
        memcpy(&d, block + offsetof(Block, d), sizeof d);
        return _mm512_fmadd_ps(_mm512_set1_ps(widen_half(d) * x.d), _mm512_cvtepi32_ps(total), sums);
    }
};

struct VectorIQ4_XS {
    using Block = BlockIQ4_XS;
    using Column = SuperColumn;

    static void join(const RowsAt& at, int64_t offset, const Column& x, Sums& sums, int) {
        const __m128i x_sums = _mm_loadu_si128((const __m128i*)x.pair_sums);
#pragma GCC unroll 4
        for (int r = 0; r < AT_ONCE; ++r) {
            const uint8_t* block = at[r] + offset;
            uint32_t head[2];
            memcpy(head, block, sizeof head);
            const __m256i sub = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            const __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)head[1]), _mm256_slli_epi32(sub, 2));
            const __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32((int)(head[0] >> 16)), _mm256_slli_epi32(sub, 1));
            const __m256i six = _mm256_or_si256(
                _mm256_and_si256(low, _mm256_set1_epi32(15)),
                _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
            const __m256i scales = _mm256_sub_epi32(six, _mm256_set1_epi32(32));
            const __m256i offsets = _mm256_slli_epi32(_mm256_mullo_epi32(scales, _mm256_cvtepi16_epi32(x_sums)), 7);
            __m512i total = _mm512_zextsi256_si512(_mm256_sub_epi32(_mm256_setzero_si256(), offsets));
            for (int i = 0; i < 4; ++i) {
                const uint8_t* nibbles = block + offsetof(Block, nibbles) + 32 * i;
                const __m512i levels = nonlinear(spread_nibbles(nibbles, nibbles + 16));
                const __m512i scale = _mm512_permutexvar_epi32(sub_blocks<32>(2 * i), _mm512_castsi256_si512(scales));
                const __m512i sum = dot(_mm512_setzero_si512(), levels, x.x + 64 * i);
                total = _mm512_add_epi32(total, _mm512_mullo_epi32(sum, scale));
            }
            const float d = widen_half((uint16_t)head[0]) * x.d;
            sums.rows[r] = _mm512_fmadd_ps(_mm512_set1_ps(d), _mm512_cvtepi32_ps(total), sums.rows[r]);
        }
    }
};

// Types with blocks of 32, two at a time: levels(first, second) are those of two blocks, unsigned.
template <class Type, class Block_, int LEVEL_OFFSET, Mins MINS>
struct VectorFlat {
    using Block = Block_;
    using Column = FlatColumn;

    // n blocks: those behind the end of the row are not there.
    static void join(const RowsAt& at, int64_t offset, const Column& x, Sums& sums, int n) {
        for (int i = 0; i < n; i += 2) {
            const bool both = i + 1 < n;
            const __m512i none = _mm512_setzero_si512();
            const __m512i start = MINS == OFFSET
                                      ? _mm512_sub_epi32(none, dot(none, _mm512_set1_epi8((char)LEVEL_OFFSET), x.x + 32 * i))
                                      : none;
            const __m512 x_d = halves_of(x.d[i], both ? x.d[i + 1] : 0);
#pragma GCC unroll 4
            for (int r = 0; r < AT_ONCE; ++r) {
                const uint8_t *first = at[r] + offset + i * sizeof(Block), *second = both ? first + sizeof(Block) : first;
                uint16_t a[2], b[2];
                memcpy(a, first, sizeof a);
                memcpy(b, second, sizeof b);
                const __m512 d = _mm512_mul_ps(halves_of(widen_half(a[0]), widen_half(b[0])), x_d);
                const __m512i products = dot(start, Type::levels(first, second), x.x + 32 * i);
                sums.rows[r] = _mm512_fmadd_ps(d, _mm512_cvtepi32_ps(products), sums.rows[r]);
                if (MINS == OWN) {
                    sums.added[r] += widen_half(a[1]) * x.s[i];
                    if (both) sums.added[r] += widen_half(b[1]) * x.s[i + 1];
                }
            }
        }
    }
};

struct VectorQ8_0 : VectorFlat<VectorQ8_0, BlockQ8_0, 128, OFFSET> {
    static __m512i levels(const uint8_t* first, const uint8_t* second) {
        const __m256i low = _mm256_loadu_si256((const __m256i*)(first + offsetof(Block, levels)));
        const __m256i high = _mm256_loadu_si256((const __m256i*)(second + offsetof(Block, levels)));
        return _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1), _mm512_set1_epi8((char)0x80));
    }
};

struct VectorQ4_0 : VectorFlat<VectorQ4_0, BlockQ4_0, 8, OFFSET> {
    static __m512i levels(const uint8_t* first, const uint8_t* second) {
        return spread_nibbles(first + offsetof(Block, nibbles), second + offsetof(Block, nibbles));
    }
};

struct VectorQ4_1 : VectorFlat<VectorQ4_1, BlockQ4_1, 0, OWN> {
    static __m512i levels(const uint8_t* first, const uint8_t* second) {
        return spread_nibbles(first + offsetof(Block, nibbles), second + offsetof(Block, nibbles));
    }
};

struct VectorIQ4_NL : VectorFlat<VectorIQ4_NL, BlockIQ4_NL, 128, OFFSET> {
    static __m512i levels(const uint8_t* first, const uint8_t* second) {
        return nonlinear(spread_nibbles(first + offsetof(Block, nibbles), second + offsetof(Block, nibbles)));
    }
};

// Q5_0 and Q5_1: with the fifth bits of both blocks, a bit for each level.
template <class Block>
inline __m512i five_bits(const uint8_t* first, const uint8_t* second) {
    uint32_t low, high;
    memcpy(&low, first + offsetof(Block, fifth_bits), sizeof low);
    memcpy(&high, second + offsetof(Block, fifth_bits), sizeof high);
    const __m512i fifth = _mm512_maskz_mov_epi8((uint64_t)high << 32 | low, _mm512_set1_epi8(16));
    return _mm512_or_si512(
        fifth, spread_nibbles(first + offsetof(Block, nibbles), second + offsetof(Block, nibbles)));
}

struct VectorQ5_0 : VectorFlat<VectorQ5_0, BlockQ5_0, 16, OFFSET> {
    static __m512i levels(const uint8_t* first, const uint8_t* second) { return five_bits<Block>(first, second); }
};

struct VectorQ5_1 : VectorFlat<VectorQ5_1, BlockQ5_1, 0, OWN> {
    static __m512i levels(const uint8_t* first, const uint8_t* second) { return five_bits<Block>(first, second); }
};

template <class Type>
void multiply_vector(const products::Rows& rows) {
    using Block = typename Type::Block;
    constexpr int64_t SUPER_BYTES = sizeof(Block) < 64 ? 8 * sizeof(Block) : sizeof(Block);
    const int64_t supers = rows.row / SUPER;
    const int rest = (int)(rows.row % SUPER / 32);
    const auto* x = (const typename Type::Column*)rows.columns;
    for (int64_t first = rows.first; first < rows.end; first += AT_ONCE) {
        RowsAt at;
        Sums sums = {};
        for (int r = 0; r < AT_ONCE; ++r) {
            const int64_t row = first + r < rows.n_rows ? first + r : rows.n_rows - 1;
            at[r] = rows.weights + row * rows.row_bytes;
        }
        const int64_t next = first + AT_ONCE < rows.end ? first + AT_ONCE : rows.ahead;
        Fetch fetch = fetch_rows(rows, next, AT_ONCE, 0, 1);
        for (int64_t b = 0; b < supers; ++b) {
            fetch.some(AT_ONCE * SUPER_BYTES);
            Type::join(at, b * SUPER_BYTES, x[b], sums, 8);
        }
        if (rest) Type::join(at, supers * SUPER_BYTES, x[supers], sums, rest);
        float y[AT_ONCE], mins[16];
        _mm512_storeu_ps(mins, sums.mins);
        for (int r = 0; r < AT_ONCE; ++r) {
            const float* four = mins + 4 * r;
            y[r] = _mm512_reduce_add_ps(sums.rows[r]) - ((four[0] + four[1]) + (four[2] + four[3])) + sums.added[r];
        }
        const int64_t n = rows.end - first < AT_ONCE ? rows.end - first : AT_ONCE;
        memcpy(rows.y + first, y, n * sizeof *y);
    }
}

#endif

}  // namespace

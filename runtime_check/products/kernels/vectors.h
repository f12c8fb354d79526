// Operations on vectors of 32-bit integers and floats whose lanes are rows of a weight matrix.
//
// As quantize/lanes/lanes.h, on which it stands, this is compiled once for each instruction set, in a namespace without a
// name.

#pragma once

#include "quantize/lanes/blocks.h"

namespace {

// In 256 bits, with an instruction that adds four products to 32 bits; or, for tests on processors that lack it, with a
// sequence of AVX2 in its place.
#if defined(__AVXVNNI__) || defined(AVX_VNNI_STAND_IN)
#define AVX_VNNI
#endif

// 256 bits: half as many registers as AVX-512 has.
#if defined(__AVX2__) && !defined(__AVX512F__)
#define AVX_256
#endif

// Products are summed in pairs of 16 bits, as many as fit, before the product with their scale joins a pair.
#if defined(AVX_256) && !defined(AVX_VNNI)
#define SUMS_IN_PAIRS
#endif

// Whether bytes that are multiplied with signed ones must be unsigned, and how far signed levels are shifted then. Without
// such an instruction levels are at most 127.
#if defined(__AVX512VNNI__) || defined(AVX_VNNI)
constexpr int SIGNED_OFFSET = 128;
#else
constexpr int SIGNED_OFFSET = 0;
#endif

#if defined(SUMS_IN_PAIRS)
constexpr bool IN_PAIRS = true;
#else
constexpr bool IN_PAIRS = false;
#endif

// Bits of levels up to which sums are kept so few that they fit 16 bits, where a scale joins them in a single instruction.
#if defined(SUMS_IN_PAIRS)
constexpr int JOINED_IN_16 = 8;
#elif defined(__AVX512VNNI__) || defined(AVX_VNNI)
constexpr int JOINED_IN_16 = 4;
#else
constexpr int JOINED_IN_16 = 0;
#endif

#if defined(AVX_256)
constexpr bool FEW_REGISTERS = true;  // 16
#else
constexpr bool FEW_REGISTERS = false;  // 32
#endif

typedef uint32_t Words __attribute__((vector_size(4 * WIDTH)));
typedef int16_t Pairs __attribute__((vector_size(4 * WIDTH)));  // two in each lane

constexpr int ROWS = WIDTH;  // of a panel: one in each lane

// Where the same super-block begins in each of ROWS rows: any rows; rows at equal distances, of `row_bytes`.
struct RowPointers {
    const uint8_t* at[ROWS];

    // Pointers are read from memory again each time: gcc would keep them in vectors' registers, from where they come slower.
    const uint8_t* const* each() const {
        const uint8_t* const* rows = at;
        asm("" : "+r"(rows));
        return rows;
    }
};

struct RowsInTurn {
    const uint8_t* first;
    int64_t row_bytes;

    const RowsInTurn& each() const { return *this; }
    const uint8_t* operator[](int64_t i) const { return first + i * row_bytes; }
};

#if defined(__AVX2__)
// A sum that is needed in this order: gcc would sum in another, for which it has too few registers.
inline __m256i in_turn(__m256i sum) {
    asm("" : "+x"(sum));
    return sum;
}
#endif

// sum + the four products of levels and signed bytes in each lane; IN_PAIRS two sums of two.
inline Ints add_dot(Ints sum, Ints levels, Ints x) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)levels, (__m512i)x);
#elif defined(__AVXVNNI__)
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)levels, (__m256i)x);
#elif defined(AVX_VNNI_STAND_IN)
    const __m256i w = (__m256i)levels, even_x = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)x, 8), 8);
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)), even_x);
    return sum + (Ints)even + (Ints)_mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16((__m256i)x, 8));
#elif defined(__AVX2__)
    return (Ints)in_turn(_mm256_add_epi16((__m256i)sum, _mm256_maddubs_epi16((__m256i)levels, (__m256i)x)));
#elif defined(__aarch64__)
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)levels, (int8x16_t)x);
#endif
}

// The same of signed levels, which the panel has plus SIGNED_OFFSET. IN_PAIRS they are at least -127, or activations are.
inline Ints add_dot_signed(Ints sum, Ints levels, Ints x) {
#if defined(SUMS_IN_PAIRS)
    const __m256i w = (__m256i)levels;
    return add_dot(sum, (Ints)_mm256_abs_epi8(w), (Ints)_mm256_sign_epi8((__m256i)x, w));
#else
    return add_dot(sum, levels, x);
#endif
}

// A factor of sums as join_dot takes it: IN_PAIRS of both of a pair.
inline Ints factor_of(Ints scale) { return IN_PAIRS ? (scale & 0xFFFF) | scale << 16 : scale; }

inline Ints pair_of(Ints a, Ints b) { return (a & 0xFFFF) | b << 16; }

#if defined(__AVX2__)
// Bytes of each lane, of which a, b, c, d are the numbers; 0 where one is negative.
inline Ints bytes_of(Ints four, int a, int b, int c, int d) {
    const Ints numbers = broadcast((a & 0xFF) | (b & 0xFF) << 8 | (c & 0xFF) << 16 | (int)((uint32_t)(d & 0xFF) << 24));
    const __m128i lanes = _mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0C0C0C0C);
#if defined(__AVX512F__)
    return (Ints)_mm512_shuffle_epi8((__m512i)four, (__m512i)(numbers | (Ints)_mm512_broadcast_i32x4(lanes)));
#else
    return (Ints)_mm256_shuffle_epi8((__m256i)four, (__m256i)(numbers | (Ints)_mm256_broadcastsi128_si256(lanes)));
#endif
}
#endif

// The factor that is byte i, 0 to 3, of each lane.
inline Ints factor_of_byte(Ints four, int i) {
#if defined(__AVX2__)
    return bytes_of(four, i, -128, IN_PAIRS ? i : -128, -128);
#else
    return four >> 8 * i & 0xFF;
#endif
}

// The same of a signed byte, for levels of BITS.
template <int BITS>
inline Ints factor_of_signed_byte(Ints four, int i) {
#if defined(__AVX2__)
    if (BITS <= JOINED_IN_16) return (Ints)((Pairs)bytes_of(four, -128, i, -128, IN_PAIRS ? i : -128) >> 8);
#endif
    return four << (24 - 8 * i) >> 24;
}

// Bytes 2 i and 2 i + 1 of each lane, in 16 bits each.
inline Ints pair_of_bytes(Ints four, int i) {
#if defined(__AVX2__)
    return bytes_of(four, 2 * i, -128, 2 * i + 1, -128);
#else
    return pair_of(four >> 16 * i & 0xFF, four >> (16 * i + 8) & 0xFF);
#endif
}

// The same of signed bytes, × −2^BITS.
template <int BITS>
inline Ints minus_pair_of_signed_bytes(Ints four, int i) {
#if defined(__AVX2__)
    return (Ints)-((Pairs)bytes_of(four, -128, 2 * i, -128, 2 * i + 1) >> (8 - BITS));
#else
    return pair_of(-(1 << BITS) * (four << (24 - 16 * i) >> 24), -(1 << BITS) * (four << (16 - 16 * i) >> 24));
#endif
}

// Four bits of each lane, from bit 4 i on → bit 4 of four bytes.
inline Ints fifth_bits(Ints bits, int i) {
#if defined(__AVX2__)
    const Ints each = broadcast((int32_t)0x80402010), sixteen = broadcast(0x10101010);
    const Ints set = bytes_of(i % 2 ? bits : bits << 4, i / 2, i / 2, i / 2, i / 2) & each;
#if defined(__AVX512F__)
    return (Ints)_mm512_min_epu8((__m512i)set, (__m512i)sixteen);
#else
    return (Ints)_mm256_min_epu8((__m256i)set, (__m256i)sixteen);
#endif
#else
    return ((bits >> 4 * i & 15) * 0x00204081 & 0x01010101) << 4;  // the product moves bit j of four to bit 8 j
#endif
}

// sum + the two products of 16-bit integers in each lane.
inline Ints dot2(Ints sum, Ints a, Ints b) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif defined(__AVXVNNI__)
    return (Ints)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif defined(__AVX2__)
    return sum + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__aarch64__)
    const int16x8_t first = (int16x8_t)a, second = (int16x8_t)b;
    const int32x4_t low = vmull_s16(vget_low_s16(first), vget_low_s16(second));
    return sum + (Ints)vpaddq_s32(low, vmull_high_s16(first, second));
#endif
}

// total + sums of add_dot over SUMMED<BITS> fours × their factor.
template <int BITS>
inline Ints join_dot(Ints total, Ints sums, Ints factor) {
#if defined(SUMS_IN_PAIRS)
    return (Ints)in_turn(_mm256_add_epi32((__m256i)total, _mm256_madd_epi16((__m256i)sums, (__m256i)factor)));
#else
    return BITS <= JOINED_IN_16 ? dot2(total, sums, factor) : total + sums * factor;
#endif
}

// a × b + c, rounded once.
inline Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#endif
}

// The sum of the lanes, halves first.
inline float sum_of(Floats a) {
    float each[WIDTH];
    memcpy(each, &a, sizeof each);
    for (int n = WIDTH / 2; n; n /= 2)
        for (int i = 0; i < n; ++i) each[i] += each[i + n];
    return each[0];
}

inline Floats to_floats(Ints a) { return __builtin_convertvector(a, Floats); }

// The same four bytes in each lane.
inline Ints broadcast_at(const void* bytes) {
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return broadcast(four);
}

// The halves in the lower 16 bits of each lane → floats; infinity and NaN included.
inline Floats widen_halves(Ints halves) {
#if defined(__AVX512F__)
    return (Floats)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)halves));
#elif defined(__AVX2__)
    const __m256i even = _mm256_and_si256((__m256i)halves, _mm256_set1_epi32(0xFFFF));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(even, even), 0x08);
    return (Floats)_mm256_cvtph_ps(_mm256_castsi256_si128(packed));
#elif defined(__aarch64__)
    return (Floats)vcvt_f32_f16(vreinterpret_f16_s16(vmovn_s32((int32x4_t)halves)));
#endif
}

// The same of two vectors.
inline void widen_two(Ints first, Ints second, Floats& a, Floats& b) {
#if defined(AVX_256)
    const __m256i lower = _mm256_set1_epi32(0xFFFF);
    const __m256i packed = _mm256_packus_epi32(_mm256_and_si256((__m256i)first, lower), _mm256_and_si256((__m256i)second, lower));
    const __m256i halves = _mm256_permute4x64_epi64(packed, 0xD8);
    a = (Floats)_mm256_cvtph_ps(_mm256_castsi256_si128(halves));
    b = (Floats)_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
#else
    a = widen_halves(first);
    b = widen_halves(second);
#endif
}

inline float widen_half(uint16_t half) {
#if defined(__x86_64__)
    return _cvtsh_ss(half);
#elif defined(__aarch64__)
    return widen_halves(broadcast((int32_t)half))[0];
#endif
}

// Bytes from a table of 16, by the lower four bits of each byte; their upper bits are 0.
inline Ints look_up(const int8_t* table, Ints indices) {
#if defined(__AVX512F__)
    const __m128i sixteen = _mm_loadu_si128((const __m128i*)table);
    return (Ints)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(sixteen), (__m512i)indices);
#elif defined(__AVX2__)
    const __m128i sixteen = _mm_loadu_si128((const __m128i*)table);
    return (Ints)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(sixteen), (__m256i)indices);
#elif defined(__aarch64__)
    return (Ints)vqtbl1q_s8(vld1q_s8(table), (uint8x16_t)indices);
#endif
}

// 16 bytes at `offset` of each row → four vectors with four of these bytes in each lane.
template <class At>
inline void transpose(const At& at, int64_t offset, Ints* out) {
    const auto& rows = at.each();
#if defined(__AVX512F__)
    __m512i a[4];
    for (int i = 0; i < 4; ++i) {
        a[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)(rows[i] + offset)));
        a[i] = _mm512_inserti32x4(a[i], _mm_loadu_si128((const __m128i*)(rows[i + 4] + offset)), 1);
        a[i] = _mm512_inserti32x4(a[i], _mm_loadu_si128((const __m128i*)(rows[i + 8] + offset)), 2);
        a[i] = _mm512_inserti32x4(a[i], _mm_loadu_si128((const __m128i*)(rows[i + 12] + offset)), 3);
    }
    const __m512i low01 = _mm512_unpacklo_epi32(a[0], a[1]), low23 = _mm512_unpacklo_epi32(a[2], a[3]);
    const __m512i high01 = _mm512_unpackhi_epi32(a[0], a[1]), high23 = _mm512_unpackhi_epi32(a[2], a[3]);
    out[0] = (Ints)_mm512_unpacklo_epi64(low01, low23);
    out[1] = (Ints)_mm512_unpackhi_epi64(low01, low23);
    out[2] = (Ints)_mm512_unpacklo_epi64(high01, high23);
    out[3] = (Ints)_mm512_unpackhi_epi64(high01, high23);
#elif defined(__AVX2__)
    __m256i a[4];
    for (int i = 0; i < 4; ++i) {
        a[i] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)(rows[i] + offset)));
        a[i] = _mm256_inserti128_si256(a[i], _mm_loadu_si128((const __m128i*)(rows[i + 4] + offset)), 1);
    }
    const __m256i low01 = _mm256_unpacklo_epi32(a[0], a[1]), low23 = _mm256_unpacklo_epi32(a[2], a[3]);
    const __m256i high01 = _mm256_unpackhi_epi32(a[0], a[1]), high23 = _mm256_unpackhi_epi32(a[2], a[3]);
    out[0] = (Ints)_mm256_unpacklo_epi64(low01, low23);
    out[1] = (Ints)_mm256_unpackhi_epi64(low01, low23);
    out[2] = (Ints)_mm256_unpacklo_epi64(high01, high23);
    out[3] = (Ints)_mm256_unpackhi_epi64(high01, high23);
#elif defined(__aarch64__)
    int32x4_t a[4];
    for (int i = 0; i < 4; ++i) a[i] = vreinterpretq_s32_u8(vld1q_u8(rows[i] + offset));
    const int64x2_t low01 = vreinterpretq_s64_s32(vzip1q_s32(a[0], a[1]));
    const int64x2_t low23 = vreinterpretq_s64_s32(vzip1q_s32(a[2], a[3]));
    const int64x2_t high01 = vreinterpretq_s64_s32(vzip2q_s32(a[0], a[1]));
    const int64x2_t high23 = vreinterpretq_s64_s32(vzip2q_s32(a[2], a[3]));
    out[0] = (Ints)vzip1q_s64(low01, low23);
    out[1] = (Ints)vzip2q_s64(low01, low23);
    out[2] = (Ints)vzip1q_s64(high01, high23);
    out[3] = (Ints)vzip2q_s64(high01, high23);
#endif
}

// An integer of type T at `offset` of each row.
template <class T, class At>
inline Ints pick(const At& at, int64_t offset) {
    const auto& rows = at.each();
    Ints found;
    for (int i = 0; i < ROWS; ++i) {
        T value;
        memcpy(&value, rows[i] + offset, sizeof value);
        found[i] = (int32_t)value;
    }
    return found;
}

// The halves at `offset` of each row, widened.
template <class At>
inline Floats pick_halves(const At& at, int64_t offset) {
#if defined(AVX_256)
    const auto& rows = at.each();
    typedef uint16_t Halves __attribute__((vector_size(2 * ROWS)));
    Halves halves;
    for (int i = 0; i < ROWS; ++i) {
        uint16_t half;
        memcpy(&half, rows[i] + offset, sizeof half);
        halves[i] = half;
    }
    return (Floats)_mm256_cvtph_ps((__m128i)halves);
#else
    return widen_halves(pick<uint16_t>(at, offset));
#endif
}

}  // namespace

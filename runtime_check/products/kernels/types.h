// Decode super-blocks of ROWS rows, type by type: to a head, and to levels, which `out` takes 16 weights at a time. Offsets
// are those of quantize/lanes/blocks.h.

#pragma once

#include "panels.h"

namespace {

constexpr int32_t LOW_NIBBLES = 0x0F0F0F0F, FIFTH_BITS = 0x10101010, UPPER_PAIRS = 0x30303030, PAIRS = 0x03030303;
constexpr int32_t SIGN_BITS = (int32_t)0x80808080;
constexpr uint32_t BITS_OF_32 = 0x20202020;

// ggml's kvalues_iq4nl.
const int8_t NONLINEAR[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Signed bytes as dot4_signed takes them.
inline Ints store_signed(Ints levels) { return SIGNED_OFFSET ? levels ^ SIGN_BITS : levels; }

// Scales of sub-blocks, bytes of each lane.
template <int N>
inline void put_scales(const Ints* bytes, SuperHead& head) {
    for (int i = 0; i < N; ++i) head.factors[i] = factor_of_byte(bytes[i / 4], i % 4);
}

// Minima of pairs of sub-blocks, bytes of each lane.
template <int N>
inline void put_mins(const Ints* bytes, SuperHead& head) {
    for (int i = 0; i < N / 2; ++i) head.mins[i] = pair_of_bytes(bytes[i / 2], i % 2);
}

// Signed scales of levels of BITS, and minima that are −2^(BITS − 1) × scale.
template <int N, int BITS>
inline void put_offset_scales(const Ints* bytes, SuperHead& head) {
    for (int i = 0; i < N; ++i) head.factors[i] = factor_of_signed_byte<BITS>(bytes[i / 4], i % 4);
    for (int i = 0; i < N / 2; ++i) head.mins[i] = minus_pair_of_signed_bytes<BITS - 1>(bytes[i / 2], i % 2);
}

// d, dmin and the eight scales and minima of Q4_K and Q5_K, which are their first 16 bytes.
template <class At>
inline void put_head(const At& rows, SuperHead& head) {
    Ints four[4];
    transpose(rows, 0, four);
    head.d = widen_halves(four[0]);
    head.min = widen_halves(four[0] >> 16);
    const Ints scales[2] = {four[1] & 0x3F3F3F3F, (four[3] & LOW_NIBBLES) | (four[1] >> 2 & UPPER_PAIRS)};
    const Ints mins[2] = {four[2] & 0x3F3F3F3F, (four[3] >> 4 & LOW_NIBBLES) | (four[2] >> 2 & UPPER_PAIRS)};
    put_scales<8>(scales, head);
    put_mins<8>(mins, head);
}

// 16 bytes of nibbles: the lower ones are levels from number `first` on, the upper ones from `apart` vectors behind them.
// level_of(nibbles, number of the vector) are their levels.
template <class At, class Out, class LevelOf>
[[gnu::always_inline]] inline void decode_nibbles(const At& rows, int64_t offset, Out& out, int first, int apart,
                                                  LevelOf level_of) {
    Ints nibbles[4], four[4];
    transpose(rows, offset, nibbles);
    for (int i = 0; i < 4; ++i) four[i] = level_of(nibbles[i] & LOW_NIBBLES, i);
    out.put(first, four);
    for (int i = 0; i < 4; ++i) four[i] = level_of(nibbles[i] >> 4 & LOW_NIBBLES, i + 4);
    out.put(first + apart, four);
}

template <class At, class Out>
[[gnu::always_inline]] inline void decode_nibbles(const At& rows, int64_t offset, Out& out, int first, int apart) {
    decode_nibbles(rows, offset, out, first, apart, [](Ints nibbles, int) { return nibbles; });
}

inline Ints nonlinear_levels(Ints nibbles, int) { return store_signed(look_up(NONLINEAR, nibbles)); }

struct Q4_K : SuperForm<32, OWN, 4> {
    using Block = BlockQ4_K;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int, Out& out) {
        put_head(rows, out);
#pragma GCC unroll DECODED_AT_ONCE
        for (int piece = 0; piece < 8; ++piece)
            decode_nibbles(rows, offsetof(Block, nibbles) + 16 * piece, out, piece / 2 * 16 + piece % 2 * 4, 8);
    }
};

struct Q5_K : SuperForm<32, OWN, 5> {
    using Block = BlockQ5_K;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int, Out& out) {
        put_head(rows, out);
        Ints fifth[8];
        for (int i = 0; i < 2; ++i) transpose(rows, offsetof(Block, fifth_bits) + 16 * i, fifth + 4 * i);
#pragma GCC unroll DECODED_AT_ONCE
        for (int piece = 0; piece < 8; ++piece) {
            Ints nibbles[4], low[4], high[4];
            transpose(rows, offsetof(Block, nibbles) + 16 * piece, nibbles);
            for (int i = 0; i < 4; ++i) {
                const Ints bits = fifth[piece % 2 * 4 + i] >> piece / 2 * 2;
                low[i] = (nibbles[i] & LOW_NIBBLES) | (bits << 4 & FIFTH_BITS);
                high[i] = (nibbles[i] >> 4 & LOW_NIBBLES) | (bits << 3 & FIFTH_BITS);
            }
            const int first = piece / 2 * 16 + piece % 2 * 4;
            out.put(first, low);
            out.put(first + 8, high);
        }
    }
};

struct Q6_K : SuperForm<16, OFFSET, 6> {
    using Block = BlockQ6_K;
    static constexpr int FETCH_FROM = 1;
    static constexpr int MOST_FEW = 2;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int, Out& out) {
        Ints scales[4];
        transpose(rows, offsetof(Block, scales), scales);
        put_offset_scales<16, BITS>(scales, out);
        out.d = pick_halves(rows, offsetof(Block, d));
#pragma GCC unroll DECODED_AT_ONCE
        for (int piece = 0; piece < 4; ++piece) {
            const int half = piece / 2, at = piece % 2 * 16, first = 32 * half + at / 4;
            Ints pairs[4], nibbles[4], four[4];
            transpose(rows, offsetof(Block, pairs) + 32 * half + at, pairs);
            transpose(rows, offsetof(Block, nibbles) + 64 * half + at, nibbles);
            for (int i = 0; i < 4; ++i) four[i] = (nibbles[i] & LOW_NIBBLES) | (pairs[i] << 4 & UPPER_PAIRS);
            out.put(first, four);
            for (int i = 0; i < 4; ++i) four[i] = (nibbles[i] >> 4 & LOW_NIBBLES) | (pairs[i] & UPPER_PAIRS);
            out.put(first + 16, four);
            transpose(rows, offsetof(Block, nibbles) + 64 * half + 32 + at, nibbles);
            for (int i = 0; i < 4; ++i) four[i] = (nibbles[i] & LOW_NIBBLES) | (pairs[i] << 2 & UPPER_PAIRS);
            out.put(first + 8, four);
            for (int i = 0; i < 4; ++i) four[i] = (nibbles[i] >> 4 & LOW_NIBBLES) | (pairs[i] >> 2 & UPPER_PAIRS);
            out.put(first + 24, four);
        }
    }
};

struct Q3_K : SuperForm<16, OFFSET, 3> {
    using Block = BlockQ3_K;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int, Out& out) {
        Ints tail[4], third[8], scales[4];
        transpose(rows, sizeof(Block) - 16, tail);  // two bytes of `pairs`, then scales and d
        Ints a[3];
        for (int i = 0; i < 3; ++i) a[i] = (tail[i] >> 16 & 0xFFFF) | tail[i + 1] << 16;
        const Ints six[4] = {(a[0] & LOW_NIBBLES) | (a[2] & PAIRS) << 4, (a[1] & LOW_NIBBLES) | (a[2] >> 2 & PAIRS) << 4,
                             (a[0] >> 4 & LOW_NIBBLES) | (a[2] >> 4 & PAIRS) << 4,
                             (a[1] >> 4 & LOW_NIBBLES) | (a[2] >> 6 & PAIRS) << 4};
        for (int i = 0; i < 4; ++i)  // six - 32, byte by byte
            scales[i] = (Ints)((Words)(six[i] | SIGN_BITS) - BITS_OF_32) ^ SIGN_BITS;
        put_offset_scales<16, BITS>(scales, out);
        out.d = widen_halves(tail[3] >> 16);
        for (int i = 0; i < 2; ++i) transpose(rows, offsetof(Block, third_bits) + 16 * i, third + 4 * i);
#pragma GCC unroll DECODED_AT_ONCE
        for (int piece = 0; piece < 4; ++piece) {
            Ints pairs[4];
            transpose(rows, offsetof(Block, pairs) + 16 * piece, pairs);
            for (int j = 0; j < 4; ++j) {
                Ints four[4];
                for (int i = 0; i < 4; ++i) {
                    const Ints bits = third[piece % 2 * 4 + i] >> (piece / 2 * 4 + j) & 0x01010101;
                    four[i] = (pairs[i] >> 2 * j & PAIRS) | bits << 2;
                }
                out.put(piece / 2 * 32 + j * 8 + piece % 2 * 4, four);
            }
        }
    }
};

struct Q2_K : SuperForm<16, OWN, 2> {
    using Block = BlockQ2_K;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int, Out& out) {
        Ints bytes[4];
        transpose(rows, offsetof(Block, scales), bytes);
        Ints scales[4], mins[4];
        for (int i = 0; i < 4; ++i) scales[i] = bytes[i] & LOW_NIBBLES;
        for (int i = 0; i < 4; ++i) mins[i] = bytes[i] >> 4 & LOW_NIBBLES;
        put_scales<16>(scales, out);
        put_mins<16>(mins, out);
        const Ints both = pick<uint32_t>(rows, offsetof(Block, d));
        out.d = widen_halves(both);
        out.min = widen_halves(both >> 16);
#pragma GCC unroll DECODED_AT_ONCE
        for (int piece = 0; piece < 4; ++piece) {
            Ints pairs[4];
            transpose(rows, offsetof(Block, pairs) + 16 * piece, pairs);
            for (int j = 0; j < 4; ++j) {
                Ints four[4];
                for (int i = 0; i < 4; ++i) four[i] = pairs[i] >> 2 * j & PAIRS;
                out.put(piece / 2 * 32 + j * 8 + piece % 2 * 4, four);
            }
        }
    }
};

struct IQ4_XS : SuperForm<32, OFFSET, 8> {
    using Block = BlockIQ4_XS;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int, Out& out) {
        Ints head[4], scales[8];
        transpose(rows, 0, head);
        out.d = widen_halves(head[0]);
        for (int i = 0; i < 8; ++i)
            scales[i] = ((head[1] >> 4 * i & 15) | (head[0] >> (16 + 2 * i) & 3) << 4) - 32;
        for (int i = 0; i < 8; ++i) out.factors[i] = factor_of(scales[i]);
        for (int i = 0; i < 4; ++i)
            out.mins[i] = pair_of(-SIGNED_OFFSET * scales[2 * i], -SIGNED_OFFSET * scales[2 * i + 1]);
#pragma GCC unroll DECODED_AT_ONCE
        for (int sub = 0; sub < 8; ++sub)
            decode_nibbles(rows, offsetof(Block, nibbles) + 16 * sub, out, 8 * sub, 4, nonlinear_levels);
    }
};

// A type of blocks of 32: decode_block(rows, offset of the block, out, b) decodes block b of a super-block of each row.
// Blocks behind the n weights that are left of the row are 0.
template <class Type, class At, class Out>
[[gnu::always_inline]] inline void decode_blocks(const At& rows, int n, Out& out) {
    if (n < SUPER) out.clear();
    for (int b = 0; b < n / 32; ++b) Type::decode_block(rows, b * (int64_t)sizeof(typename Type::Block), out, b);
}

// A scale in the lower 16 bits, and a minimum in the upper ones.
template <class Out>
[[gnu::always_inline]] inline void put_scale_and_min(Ints both, Out& out, int b) {
    out.d[b] = widen_halves(both);
    out.min[b] = widen_halves(both >> 16);
}

struct Q8_0 : FlatForm<SIGNED_OFFSET, OFFSET, 8> {
    using Block = BlockQ8_0;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode_block(const At& rows, int64_t offset, Out& out, int b) {
        out.d[b] = pick_halves(rows, offset);
        for (int piece = 0; piece < 2; ++piece) {
            Ints four[4];
            transpose(rows, offset + offsetof(Block, levels) + 16 * piece, four);
            for (int i = 0; i < 4; ++i) four[i] = store_signed(four[i]);
            out.put(8 * b + 4 * piece, four);
        }
    }
    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int n, Out& out) {
        decode_blocks<Q8_0>(rows, n, out);
    }
};


template <class Block_, int LEVEL_OFFSET, Mins MINS_>
struct Nibbles : FlatForm<LEVEL_OFFSET, MINS_, 4> {
    using Block = Block_;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode_block(const At& rows, int64_t offset, Out& out, int b) {
        if constexpr (MINS_ == OWN)
            put_scale_and_min(pick<uint32_t>(rows, offset), out, b);
        else
            out.d[b] = pick_halves(rows, offset);
        decode_nibbles(rows, offset + offsetof(Block, nibbles), out, 8 * b, 4);
    }
    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int n, Out& out) {
        decode_blocks<Nibbles>(rows, n, out);
    }
};

template <class Block_, int LEVEL_OFFSET, Mins MINS_>
struct FiveBits : FlatForm<LEVEL_OFFSET, MINS_, 5> {
    using Block = Block_;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode_block(const At& rows, int64_t offset, Out& out, int b) {
        Ints words[4], bits;  // the first 16 bytes: scale, minimum if there is one, fifth bits, and some nibbles
        transpose(rows, offset, words);
        if constexpr (MINS_ == OWN) {
            put_scale_and_min(words[0], out, b);
            bits = words[1];
        } else {
            out.d[b] = widen_halves(words[0]);
            bits = (words[0] >> 16 & 0xFFFF) | words[1] << 16;
        }
        decode_nibbles(rows, offset + offsetof(Block, nibbles), out, 8 * b, 4,
                       [bits](Ints nibbles, int four) { return nibbles | fifth_bits(bits, four); });
    }
    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int n, Out& out) {
        decode_blocks<FiveBits>(rows, n, out);
    }
};

using Q4_0 = Nibbles<BlockQ4_0, 8, OFFSET>;
using Q4_1 = Nibbles<BlockQ4_1, 0, OWN>;
using Q5_0 = FiveBits<BlockQ5_0, 16, OFFSET>;
using Q5_1 = FiveBits<BlockQ5_1, 0, OWN>;

struct IQ4_NL : FlatForm<SIGNED_OFFSET, OFFSET, 8> {
    using Block = BlockIQ4_NL;

    template <class At, class Out>
    [[gnu::always_inline]] static void decode_block(const At& rows, int64_t offset, Out& out, int b) {
        out.d[b] = pick_halves(rows, offset);
        decode_nibbles(rows, offset + offsetof(Block, nibbles), out, 8 * b, 4, nonlinear_levels);
    }
    template <class At, class Out>
    [[gnu::always_inline]] static void decode(const At& rows, int n, Out& out) {
        decode_blocks<IQ4_NL>(rows, n, out);
    }
};

}  // namespace

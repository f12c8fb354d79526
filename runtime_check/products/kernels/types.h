// Decode super-blocks of ROWS rows to a panel, type by type. Offsets are those of quantize/lanes/blocks.h.

#pragma once

#include "panels.h"

namespace {

constexpr int32_t LOW_NIBBLES = 0x0F0F0F0F, FIFTH_BITS = 0x10101010, UPPER_PAIRS = 0x30303030, PAIRS = 0x03030303;

// ggml's kvalues_iq4nl.
const int8_t NONLINEAR[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Signed bytes as dot4_signed takes them.
inline Ints store_signed(Ints levels) { return SIGNED_OFFSET ? levels ^ (int32_t)0x80808080 : levels; }

// Byte i, 0 to 3, of each lane.
inline Ints byte_of(Ints four, int i) { return four >> 8 * i & 0xFF; }

inline Ints signed_byte_of(Ints four, int i) { return four << (24 - 8 * i) >> 24; }

inline Ints pair_of(Ints a, Ints b) { return (a & 0xFFFF) | b << 16; }

// Scales of sub-blocks, and minima that are −offset × scale.
template <int N>
inline void put_offset_scales(const Ints* scales, int offset, SuperPanel& panel) {
    for (int i = 0; i < N; ++i) panel.factors[i] = factor_of(scales[i]);
    for (int i = 0; i < N / 2; ++i) panel.mins[i] = pair_of(-offset * scales[2 * i], -offset * scales[2 * i + 1]);
}

// d, dmin and the eight scales and minima of Q4_K and Q5_K, which are their first 16 bytes.
inline void put_head(const RowPointers& rows, SuperPanel& panel) {
    Ints head[4];
    transpose(rows, 0, head);
    panel.d = widen_halves(head[0]);
    panel.min = widen_halves(head[0] >> 16);
    const Ints scales[2] = {head[1] & 0x3F3F3F3F, (head[3] & LOW_NIBBLES) | (head[1] >> 2 & UPPER_PAIRS)};
    const Ints mins[2] = {head[2] & 0x3F3F3F3F, (head[3] >> 4 & LOW_NIBBLES) | (head[2] >> 2 & UPPER_PAIRS)};
    for (int i = 0; i < 8; ++i) panel.factors[i] = factor_of(byte_of(scales[i / 4], i % 4));
    for (int i = 0; i < 4; ++i)
        panel.mins[i] = pair_of(byte_of(mins[i / 2], 2 * i % 4), byte_of(mins[i / 2], 2 * i % 4 + 1));
}

struct Q4_K : SuperForm<32, OWN, 4> {
    using Block = BlockQ4_K;

    static void decode(const RowPointers& rows, int, Panel& panel) {
        put_head(rows, panel);
        for (int piece = 0; piece < 8; ++piece) {
            Ints nibbles[4], *low = panel.levels + piece / 2 * 16 + piece % 2 * 4, *high = low + 8;
            transpose(rows, offsetof(Block, nibbles) + 16 * piece, nibbles);
            for (int i = 0; i < 4; ++i) low[i] = nibbles[i] & LOW_NIBBLES;
            for (int i = 0; i < 4; ++i) high[i] = nibbles[i] >> 4 & LOW_NIBBLES;
        }
    }
};

struct Q5_K : SuperForm<32, OWN, 5> {
    using Block = BlockQ5_K;

    static void decode(const RowPointers& rows, int, Panel& panel) {
        put_head(rows, panel);
        Ints fifth[8];
        for (int i = 0; i < 2; ++i) transpose(rows, offsetof(Block, fifth_bits) + 16 * i, fifth + 4 * i);
        for (int piece = 0; piece < 8; ++piece) {
            Ints nibbles[4], *low = panel.levels + piece / 2 * 16 + piece % 2 * 4, *high = low + 8;
            transpose(rows, offsetof(Block, nibbles) + 16 * piece, nibbles);
            for (int i = 0; i < 4; ++i) {
                const Ints bits = fifth[piece % 2 * 4 + i] >> piece / 2 * 2;
                low[i] = (nibbles[i] & LOW_NIBBLES) | (bits << 4 & FIFTH_BITS);
                high[i] = (nibbles[i] >> 4 & LOW_NIBBLES) | (bits << 3 & FIFTH_BITS);
            }
        }
    }
};

struct Q6_K : SuperForm<16, OFFSET, 6> {
    using Block = BlockQ6_K;

    static void decode(const RowPointers& rows, int, Panel& panel) {
        Ints four[4], scales[16];
        transpose(rows, offsetof(Block, scales), four);
        for (int i = 0; i < 16; ++i) scales[i] = signed_byte_of(four[i / 4], i % 4);
        put_offset_scales<16>(scales, 32, panel);
        panel.d = widen_halves(pick<uint16_t>(rows, offsetof(Block, d)));
        for (int half = 0; half < 2; ++half) {
            Ints low[16], pairs[8], *levels = panel.levels + 32 * half;
            for (int i = 0; i < 4; ++i) transpose(rows, offsetof(Block, nibbles) + 64 * half + 16 * i, low + 4 * i);
            for (int i = 0; i < 2; ++i) transpose(rows, offsetof(Block, pairs) + 32 * half + 16 * i, pairs + 4 * i);
            for (int i = 0; i < 8; ++i) {
                levels[i] = (low[i] & LOW_NIBBLES) | (pairs[i] << 4 & UPPER_PAIRS);
                levels[i + 8] = (low[i + 8] & LOW_NIBBLES) | (pairs[i] << 2 & UPPER_PAIRS);
                levels[i + 16] = (low[i] >> 4 & LOW_NIBBLES) | (pairs[i] & UPPER_PAIRS);
                levels[i + 24] = (low[i + 8] >> 4 & LOW_NIBBLES) | (pairs[i] >> 2 & UPPER_PAIRS);
            }
        }
    }
};

struct Q3_K : SuperForm<16, OFFSET, 3> {
    using Block = BlockQ3_K;

    static void decode(const RowPointers& rows, int, Panel& panel) {
        Ints tail[4], third[8], scales[16];
        transpose(rows, sizeof(Block) - 16, tail);  // two bytes of `pairs`, then scales and d
        Ints a[3];
        for (int i = 0; i < 3; ++i) a[i] = (tail[i] >> 16 & 0xFFFF) | tail[i + 1] << 16;
        const Ints six[4] = {(a[0] & LOW_NIBBLES) | (a[2] & PAIRS) << 4, (a[1] & LOW_NIBBLES) | (a[2] >> 2 & PAIRS) << 4,
                             (a[0] >> 4 & LOW_NIBBLES) | (a[2] >> 4 & PAIRS) << 4,
                             (a[1] >> 4 & LOW_NIBBLES) | (a[2] >> 6 & PAIRS) << 4};
        for (int i = 0; i < 16; ++i) scales[i] = byte_of(six[i / 4], i % 4) - 32;
        put_offset_scales<16>(scales, 4, panel);
        panel.d = widen_halves(tail[3] >> 16);
        for (int i = 0; i < 2; ++i) transpose(rows, offsetof(Block, third_bits) + 16 * i, third + 4 * i);
        for (int piece = 0; piece < 4; ++piece) {
            Ints pairs[4];
            transpose(rows, offsetof(Block, pairs) + 16 * piece, pairs);
            for (int j = 0; j < 4; ++j)
                for (int i = 0; i < 4; ++i)
                    panel.levels[piece / 2 * 32 + j * 8 + piece % 2 * 4 + i] =
                        (pairs[i] >> 2 * j & PAIRS) | (third[piece % 2 * 4 + i] >> (piece / 2 * 4 + j) & 0x01010101) << 2;
        }
    }
};

struct Q2_K : SuperForm<16, OWN, 2> {
    using Block = BlockQ2_K;

    static void decode(const RowPointers& rows, int, Panel& panel) {
        Ints four[4];
        transpose(rows, offsetof(Block, scales), four);
        for (int i = 0; i < 16; ++i) panel.factors[i] = factor_of(byte_of(four[i / 4], i % 4) & 15);
        for (int i = 0; i < 8; ++i)
            panel.mins[i] = pair_of(byte_of(four[i / 2], 2 * i % 4) >> 4, byte_of(four[i / 2], 2 * i % 4 + 1) >> 4);
        const Ints both = pick<uint32_t>(rows, offsetof(Block, d));
        panel.d = widen_halves(both);
        panel.min = widen_halves(both >> 16);
        for (int piece = 0; piece < 4; ++piece) {
            Ints pairs[4];
            transpose(rows, offsetof(Block, pairs) + 16 * piece, pairs);
            for (int j = 0; j < 4; ++j)
                for (int i = 0; i < 4; ++i)
                    panel.levels[piece / 2 * 32 + j * 8 + piece % 2 * 4 + i] = pairs[i] >> 2 * j & PAIRS;
        }
    }
};

struct IQ4_XS : SuperForm<32, OFFSET, 8> {
    using Block = BlockIQ4_XS;

    static void decode(const RowPointers& rows, int, Panel& panel) {
        Ints head[4], scales[8];
        transpose(rows, 0, head);
        panel.d = widen_halves(head[0]);
        for (int i = 0; i < 8; ++i)
            scales[i] = ((head[1] >> 4 * i & 15) | (head[0] >> (16 + 2 * i) & 3) << 4) - 32;
        put_offset_scales<8>(scales, SIGNED_OFFSET, panel);
        for (int sub = 0; sub < 8; ++sub) {
            Ints nibbles[4], *levels = panel.levels + 8 * sub;
            transpose(rows, offsetof(Block, nibbles) + 16 * sub, nibbles);
            for (int i = 0; i < 4; ++i) {
                levels[i] = store_signed(look_up(NONLINEAR, nibbles[i] & LOW_NIBBLES));
                levels[i + 4] = store_signed(look_up(NONLINEAR, nibbles[i] >> 4 & LOW_NIBBLES));
            }
        }
    }
};

// A type of blocks of 32: decode_block(rows, offset of the block, levels) decodes one block of each row. Blocks from
// `n` on, behind the end of the row, are 0.
template <class Type>
inline void decode_blocks(const RowPointers& rows, int n, FlatPanel& panel) {
    if (n < 8) memset(&panel, 0, sizeof panel);
    for (int b = 0; b < n; ++b) {
        const int64_t offset = b * (int64_t)sizeof(typename Type::Block);
        panel.d[b] = widen_halves(pick<uint16_t>(rows, offset));
        if (Type::MINS == OWN) panel.min[b] = widen_halves(pick<uint16_t>(rows, offset + 2));
        Type::decode_block(rows, offset, panel.levels + 8 * b);
    }
}

struct Q8_0 : FlatForm<SIGNED_OFFSET, OFFSET, 8> {
    using Block = BlockQ8_0;

    static void decode_block(const RowPointers& rows, int64_t offset, Ints* levels) {
        for (int i = 0; i < 2; ++i) transpose(rows, offset + offsetof(Block, levels) + 16 * i, levels + 4 * i);
        for (int i = 0; i < 8; ++i) levels[i] = store_signed(levels[i]);
    }
    static void decode(const RowPointers& rows, int n, Panel& panel) { decode_blocks<Q8_0>(rows, n, panel); }
};

// 32 nibbles in 16 bytes: the lower ones first.
inline void decode_nibbles(const RowPointers& rows, int64_t offset, Ints* levels) {
    Ints nibbles[4];
    transpose(rows, offset, nibbles);
    for (int i = 0; i < 4; ++i) {
        levels[i] = nibbles[i] & LOW_NIBBLES;
        levels[i + 4] = nibbles[i] >> 4 & LOW_NIBBLES;
    }
}

// The fifth bits of 32 levels: the product moves bit i of four to bit 8 i.
inline void decode_fifth_bits(const RowPointers& rows, int64_t offset, Ints* levels) {
    const Ints bits = pick<uint32_t>(rows, offset);
    for (int i = 0; i < 8; ++i) levels[i] |= ((bits >> 4 * i & 15) * 0x00204081 & 0x01010101) << 4;
}

template <class Block_, int LEVEL_OFFSET, Mins MINS_>
struct Nibbles : FlatForm<LEVEL_OFFSET, MINS_, 4> {
    using Block = Block_;

    static void decode_block(const RowPointers& rows, int64_t offset, Ints* levels) {
        decode_nibbles(rows, offset + offsetof(Block, nibbles), levels);
    }
    static void decode(const RowPointers& rows, int n, FlatPanel& panel) { decode_blocks<Nibbles>(rows, n, panel); }
};

template <class Block_, int LEVEL_OFFSET, Mins MINS_>
struct FiveBits : FlatForm<LEVEL_OFFSET, MINS_, 5> {
    using Block = Block_;

    static void decode_block(const RowPointers& rows, int64_t offset, Ints* levels) {
        decode_nibbles(rows, offset + offsetof(Block, nibbles), levels);
        decode_fifth_bits(rows, offset + offsetof(Block, fifth_bits), levels);
    }
    static void decode(const RowPointers& rows, int n, FlatPanel& panel) { decode_blocks<FiveBits>(rows, n, panel); }
};

using Q4_0 = Nibbles<BlockQ4_0, 8, OFFSET>;
using Q4_1 = Nibbles<BlockQ4_1, 0, OWN>;
using Q5_0 = FiveBits<BlockQ5_0, 16, OFFSET>;
using Q5_1 = FiveBits<BlockQ5_1, 0, OWN>;

struct IQ4_NL : FlatForm<SIGNED_OFFSET, OFFSET, 8> {
    using Block = BlockIQ4_NL;

    static void decode_block(const RowPointers& rows, int64_t offset, Ints* levels) {
        decode_nibbles(rows, offset + offsetof(Block, nibbles), levels);
        for (int i = 0; i < 8; ++i) levels[i] = store_signed(look_up(NONLINEAR, levels[i]));
    }
    static void decode(const RowPointers& rows, int n, Panel& panel) { decode_blocks<IQ4_NL>(rows, n, panel); }
};

}  // namespace

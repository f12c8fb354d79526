// The blocks of ggml's types, byte by byte as its ggml-common.h has them, and how levels lie in them.

#pragma once

#include "halves.h"

namespace {

constexpr int SUPER = 256;  // weights of a super-block

struct BlockQ8_0 {
    uint16_t d;
    uint8_t levels[32];  // of two's complement
};
struct BlockQ4_0 {
    uint16_t d;
    uint8_t nibbles[16];
};
struct BlockQ4_1 {
    uint16_t d, min;
    uint8_t nibbles[16];
};
struct BlockQ5_0 {
    uint16_t d;
    uint8_t fifth_bits[4], nibbles[16];
};
struct BlockQ5_1 {
    uint16_t d, min;
    uint8_t fifth_bits[4], nibbles[16];
};
struct BlockIQ4_NL {
    uint16_t d;
    uint8_t nibbles[16];
};
struct BlockIQ4_XS {
    uint16_t d, scales_high;
    uint8_t scales_low[4], nibbles[128];
};
struct BlockQ2_K {
    uint8_t scales[16], pairs[64];
    uint16_t d, dmin;
};
struct BlockQ3_K {
    uint8_t third_bits[32], pairs[64], scales[12];
    uint16_t d;
};
struct BlockQ4_K {
    uint16_t d, dmin;
    uint8_t scales[12], nibbles[128];
};
struct BlockQ5_K {
    uint16_t d, dmin;
    uint8_t scales[12], fifth_bits[32], nibbles[128];
};
struct BlockQ6_K {
    uint8_t nibbles[128], pairs[64];
    int8_t scales[16];
    uint16_t d;
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ5_0) == 22, "as in ggml");
static_assert(sizeof(BlockQ4_1) == 20 && sizeof(BlockQ4_0) == 18 && sizeof(BlockIQ4_NL) == 18, "as in ggml");
static_assert(sizeof(BlockIQ4_XS) == 136 && sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110, "as in ggml");
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210, "as in ggml");

// Four bits of levels `apart` from each other, two in a byte.
template <int N>
inline void put_nibbles(const uint8_t* levels, int apart, uint8_t* bytes) {
    for (int begin = 0; begin < N; begin += 2 * apart, levels += 2 * apart, bytes += apart)
        for (int i = 0; i < apart; ++i) bytes[i] = (uint8_t)((levels[i] & 15) | levels[i + apart] << 4);
}

// Two bits (after `shift`) of levels 32 apart, four in a byte.
inline void put_pairs(const uint8_t* levels, int shift, uint8_t* bytes) {
    for (int half = 0; half < 2; ++half, levels += 128, bytes += 32)
        for (int i = 0; i < 32; ++i)
            bytes[i] = (uint8_t)((levels[i] >> shift & 3) | (levels[i + 32] >> shift & 3) << 2 |
                                 (levels[i + 64] >> shift & 3) << 4 | (levels[i + 96] >> shift & 3) << 6);
}

// One bit (after `shift`) of levels 32 apart, eight in a byte.
inline void put_bits(const uint8_t* levels, int shift, uint8_t* bytes) {
    for (int i = 0; i < 32; ++i) {
        int byte = 0;
        for (int bit = 0; bit < 8; ++bit) byte |= (levels[32 * bit + i] >> shift & 1) << bit;
        bytes[i] = (uint8_t)byte;
    }
}

// The fifth bits of 32 levels, one behind the other. The product moves bit 8 i of eight bytes to bit 56 + i.
inline void put_fifth_bits(const uint8_t* levels, uint8_t* bytes) {
    for (int i = 0; i < 4; ++i) {
        uint64_t eight;
        memcpy(&eight, levels + 8 * i, sizeof eight);
        bytes[i] = (uint8_t)((eight >> 4 & 0x0101010101010101) * 0x0102040810204080 >> 56);
    }
}

// Eight scales and eight minima of six bits each, in 12 bytes.
inline void put_scales_and_mins(const uint8_t* scales, const uint8_t* mins, uint8_t* bytes) {
    for (int i = 0; i < 4; ++i) {
        bytes[i] = (uint8_t)(scales[i] | scales[i + 4] >> 4 << 6);
        bytes[i + 4] = (uint8_t)(mins[i] | mins[i + 4] >> 4 << 6);
        bytes[i + 8] = (uint8_t)((scales[i + 4] & 15) | (mins[i + 4] & 15) << 4);
    }
}

// Sixteen scales of six bits each, in 12 bytes.
inline void put_scales(const uint8_t* scales, uint8_t* bytes) {
    put_nibbles<16>(scales, 8, bytes);
    for (int i = 0; i < 4; ++i)
        bytes[i + 8] = (uint8_t)(scales[i] >> 4 | scales[i + 4] >> 4 << 2 | scales[i + 8] >> 4 << 4 |
                                 scales[i + 12] >> 4 << 6);
}

// The whole of a super-block with minima, but for `d` and `dmin`.
inline void put(const uint8_t* scales, const uint8_t* mins, const uint8_t* levels, BlockQ2_K& block) {
    for (int i = 0; i < 16; ++i) block.scales[i] = (uint8_t)(scales[i] | mins[i] << 4);
    put_pairs(levels, 0, block.pairs);
}

inline void put(const uint8_t* scales, const uint8_t* mins, const uint8_t* levels, BlockQ4_K& block) {
    put_scales_and_mins(scales, mins, block.scales);
    put_nibbles<SUPER>(levels, 32, block.nibbles);
}

inline void put(const uint8_t* scales, const uint8_t* mins, const uint8_t* levels, BlockQ5_K& block) {
    put_scales_and_mins(scales, mins, block.scales);
    put_nibbles<SUPER>(levels, 32, block.nibbles);
    put_bits(levels, 4, block.fifth_bits);
}

}  // namespace

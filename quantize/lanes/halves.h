// Rows as they are stored → float32, and scales → F16, as IEEE 754 rounds them.

#pragma once

#include "lanes.h"

namespace {

inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Exact, also for subnormal halves; not for infinity and NaN, which never come here.
inline float from_half(uint16_t half) {
    const float value = float_of((uint32_t)(half & 0x7FFF) << 13) * 0x1p112f;
    return float_of(bits_of(value) | (uint32_t)(half & 0x8000) << 16);
}

inline float from_bfloat(uint16_t bfloat) { return float_of((uint32_t)bfloat << 16); }

// To nearest, ties to even; 65520 and above become infinite.
inline uint16_t to_half(float value) {
    const uint32_t sign = bits_of(value) >> 16 & 0x8000, bits = bits_of(value) & 0x7FFFFFFF;
    if (bits > 0x7F800000) return (uint16_t)(sign | 0x7E00);
    if (bits >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
    if (bits < 0x38800000)  // subnormal: the sum has its last bit where theirs is
        return (uint16_t)(sign | (bits_of(float_of(bits) + 0.5f) - bits_of(0.5f)));
    return (uint16_t)(sign | ((bits + 0xFFF + (bits >> 13 & 1) - 0x38000000) >> 13));
}

// Numbers are those of ggml_type.
enum Stored { F32 = 0, F16 = 1, BF16 = 30 };

inline size_t stored_bytes(Stored stored) { return stored == F32 ? 4 : 2; }

inline void widen(const void* from, Stored stored, int n, float* to) {
    if (stored == F32) {
        memcpy(to, from, 4 * (size_t)n);
        return;
    }
    for (int i = 0; i < n; ++i) {
        uint16_t bits;
        memcpy(&bits, (const char*)from + 2 * i, 2);
        to[i] = stored == BF16 ? from_bfloat(bits) : from_half(bits);
    }
}

}  // namespace

// The equation on the CPU in one pass over memory. op.multiply is the truth that this agrees with, bit for bit.
#include <cstdint>
#include <cstring>

namespace {

constexpr int LANES = 32;
constexpr int64_t BLOCK = 32 * LANES;
constexpr uint32_t ODD = 0x9E3779B9;

// Vectors of the compiler's own, so that speed does not hang on what its loop vectoriser recognises.
template <class T, int N>
struct Vector {
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N>
using Vec = typename Vector<T, N>::type;

template <class V, class From>
inline V load(const From* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// A dtype as it lies in memory, the wider one that it is computed in, and the integers of that width.
struct Float32 {
    using Bits = float;
    using Wide = float;
    using Int = int32_t;
    static Vec<float, 8> read(const float* x) { return load<Vec<float, 8>>(x); }
    static void write(float* to, Vec<float, 8> x) { std::memcpy(to, &x, sizeof x); }
};

struct Float64 {
    using Bits = double;
    using Wide = double;
    using Int = int64_t;
    static Vec<double, 4> read(const double* x) { return load<Vec<double, 4>>(x); }
    static void write(double* to, Vec<double, 4> x) { std::memcpy(to, &x, sizeof x); }
};

struct BFloat16 {
    using Bits = uint16_t;
    using Wide = float;
    using Int = int32_t;
    static Vec<float, 8> read(const uint16_t* x) {
        return (Vec<float, 8>)(__builtin_convertvector(load<Vec<uint16_t, 8>>(x), Vec<uint32_t, 8>) << 16);
    }
    static void write(uint16_t* to, Vec<float, 8> x) {  // to nearest, ties to even; no product is a NaN with low bits
        const auto bits = (Vec<uint32_t, 8>)x;
        const auto top = __builtin_convertvector((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, Vec<uint16_t, 8>);
        std::memcpy(to, &top, sizeof top);
    }
};

inline uint32_t mix(uint32_t h) {
    h = (h ^ (h >> 16)) * 0x21F0AAAD;
    h = (h ^ (h >> 15)) * 0xD35A2D97;
    return h ^ (h >> 15);
}

// Bit b of words[k] is the sign of element 32 * b + k of the block: 1 with probability level / 2^16.
inline void draw(uint32_t low, uint32_t high, uint32_t block, uint32_t level, uint32_t* words) {
    uint32_t first[LANES];
    for (uint32_t k = 0; k < LANES; k++) {
        first[k] = mix(((block * LANES + k) ^ low) + ODD);
        words[k] = level >> 16 ? ~0u : 0u;
    }
    if (level == 0 || level >> 16) return;
    for (int plane = 15 - __builtin_ctz(level); plane >= 0; plane--) {
        const uint32_t step = mix(plane) + ODD;
        const uint32_t either = (level >> (15 - plane)) & 1 ? ~0u : 0u;
        for (int k = 0; k < LANES; k++) {
            const uint32_t word = first[k] + mix((first[k] ^ high) + step);
            words[k] = (words[k] & word) | ((words[k] ^ word) & either);
        }
    }
}

template <class T, bool RECTIFY>
void multiply(const typename T::Bits* src, const typename T::Bits* ref, typename T::Bits* out, int64_t n,
              int64_t start, uint64_t seed, double eps, double slope, uint32_t level, int threads) {
    using Wide = typename T::Wide;
    constexpr int N = 32 / sizeof(Wide);
    using Values = Vec<Wide, N>;
    const Values zero = {}, one = zero + Wide(1), shrink = zero + Wide(slope);
    const Values more = one + Wide(eps), less = one - Wide(eps);
    const uint32_t high = mix(uint32_t(seed >> 32) ^ mix(uint32_t(seed) + ODD));
    const uint32_t low = mix(uint32_t(seed) ^ high);

    const auto row = [=](const typename T::Bits* y, const typename T::Bits* x, typename T::Bits* to,
                         const uint32_t* words, int b) __attribute__((always_inline)) {
        for (int k = 0; k < LANES; k += N) {
            const auto drawn = (Vec<int32_t, N>)(load<Vec<uint32_t, N>>(words + k) << (31 - b)) < 0;
            const auto plus = __builtin_convertvector(drawn, Vec<typename T::Int, N>);
            const Values at = T::read(x + k), value = T::read(y + k);
            if (RECTIFY) {
                T::write(to + k, (at <= zero ? zero : value) * (plus ? more : less));
            } else {
                const Values factor = at == zero ? one : (plus ^ (at > zero)) ? less : more;
                T::write(to + k, (at <= zero ? value * shrink : value) * factor);
            }
        }
    };
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) if (n >= 32 * BLOCK)
    for (int64_t block = 0; block < blocks; block++) {
        alignas(64) uint32_t words[LANES];
        draw(low, high, uint32_t(start / BLOCK + block), level, words);
        for (int b = 0; b < 32; b++) {
            const int64_t begin = block * BLOCK + b * LANES, left = n - begin;
            if (left >= LANES) {
                row(src + begin, ref + begin, out + begin, words, b);
            } else if (left > 0) {
                typename T::Bits y[LANES] = {}, x[LANES] = {};
                std::memcpy(y, src + begin, left * sizeof *y);
                std::memcpy(x, ref + begin, left * sizeof *x);
                row(y, x, y, words, b);
                std::memcpy(out + begin, y, left * sizeof *y);
            }
        }
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                           \
    extern "C" void NAME(const void* src, const void* ref, void* out, int64_t n, int64_t start, const void* seed, \
                         double eps, double slope, uint32_t level, int threads) {                                 \
        (slope == 0 ? multiply<T, true> : multiply<T, false>)(                                                    \
            static_cast<const T::Bits*>(src), static_cast<const T::Bits*>(ref), static_cast<T::Bits*>(out), n,    \
            start, *static_cast<const uint64_t*>(seed), eps, slope, level, threads);                              \
    }

EXPORT(multiply_float32, Float32)
EXPORT(multiply_float64, Float64)
EXPORT(multiply_bfloat16, BFloat16)

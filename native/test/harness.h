// A test harness of one header: tests register themselves, checks throw nothing and stop the test they fail.
// Every file that includes it becomes a program that ends with "N passed, M failed".
#pragma once

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace harness {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Test {
  const char* sentence;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Registration {
  Registration(const char* sentence, void (*run)()) { tests().push_back({sentence, run}); }
};

// How many times the usual number of random runs: --long sets it.
inline uint64_t scale() {
  static const uint64_t value = [] {
    const char* text = std::getenv("FORETOKEN_TEST_SCALE");
    return text ? std::max(1ull, std::strtoull(text, nullptr, 10)) : 1ull;
  }();
  return value;
}

// Added to every first seed, so that a long run can look elsewhere.
inline uint64_t seedBase() {
  const char* text = std::getenv("FORETOKEN_TEST_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 0;
}

// Sanitized builds run the same tests on fewer seeds.
inline constexpr bool sanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif
inline constexpr bool threadSanitized =
#if defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif

inline uint64_t runs(uint64_t plain) { return (sanitized ? (plain + 3) / 4 : plain) * scale(); }

// SplitMix64: any seed is a good one, and a failing seed is all a report has to name.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0x1234567ull) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t n) { return n ? next() % n : 0; }
  uint64_t between(uint64_t least, uint64_t most) { return least + below(most - least + 1); }
  bool oneIn(uint64_t n) { return below(n) == 0; }
  // Spread over the magnitudes, so that small and huge values are equally likely.
  uint64_t magnitude(unsigned bits) { return next() >> (64 - std::max<uint64_t>(1, below(bits) + 1)); }

 private:
  uint64_t state_;
};

inline std::string text(unsigned __int128 v) {
  char digits[40];
  char* first = digits + sizeof digits;
  do *--first = static_cast<char>('0' + static_cast<int>(v % 10));
  while (v /= 10);
  return {first, digits + sizeof digits};
}
inline std::string text(__int128 v) {
  std::string s = v < 0 ? "-" : "";
  s += text(v < 0 ? -static_cast<unsigned __int128>(v) : static_cast<unsigned __int128>(v));
  return s;
}
template <class V>
std::string text(const V& v) {
  std::ostringstream s;
  s << +v;
  return s.str();
}

// What the running test is doing, for the report of a failure: a seed, a step, an operation.
inline std::string& context() {
  static std::string value;
  return value;
}

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + what + (context().empty() ? "" : " [" + context() + "]"));
}

inline int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  for (const Test& test : tests()) {
    if (argc > 1 && !std::strstr(test.sentence, argv[1])) continue;
    context().clear();
    try {
      test.run();
      ++passed;
    } catch (const std::exception& e) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.sentence, e.what());
    }
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}

}  // namespace harness

#define HARNESS_JOIN2(a, b) a##b
#define HARNESS_JOIN(a, b) HARNESS_JOIN2(a, b)
#define TEST(sentence)                                                                                            \
  static void HARNESS_JOIN(test_, __LINE__)();                                                                    \
  static const harness::Registration HARNESS_JOIN(registration_, __LINE__)(sentence, HARNESS_JOIN(test_, __LINE__)); \
  static void HARNESS_JOIN(test_, __LINE__)()

#define CHECK(condition) \
  do {                   \
    if (!(condition)) harness::fail(__FILE__, __LINE__, #condition); \
  } while (0)

#define CHECK_OP(a, op, b)                                                                                      \
  do {                                                                                                          \
    const auto left_ = (a);                                                                                     \
    const auto right_ = (b);                                                                                    \
    if (!(left_ op right_))                                                                                     \
      harness::fail(__FILE__, __LINE__, #a " " #op " " #b ": " + harness::text(left_) + " against " + harness::text(right_)); \
  } while (0)

#define CHECK_EQ(a, b) CHECK_OP(a, ==, b)
#define CHECK_LE(a, b) CHECK_OP(a, <=, b)
#define CHECK_GE(a, b) CHECK_OP(a, >=, b)

#define HARNESS_MAIN \
  int main(int argc, char** argv) { return harness::main(argc, argv); }

// What a call of JavaScript that is not hot brings with it. TypeScript validates values; here only what could harm memory
// is checked again.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "attachment.h"
#include "directory.h"

namespace foretoken {

inline Attachment& self(const Napi::CallbackInfo& info) { return *static_cast<Attachment*>(info.Data()); }

inline double number(const Napi::CallbackInfo& info, size_t i) {
  return i < info.Length() && info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : NAN;
}

// Of what a thread that is being terminated reads, every kind is asked for first: such a value may be empty, and to
// convert an empty one ends the process.
inline bool isTrue(const Napi::Value& value) { return value.IsBoolean() && value.As<Napi::Boolean>().Value(); }
inline bool isTrue(const Napi::CallbackInfo& info, size_t at) { return info.Length() > at && isTrue(info[at]); }

// Whole and within the bounds, or 0, which no caller allows.
inline uint32_t countOf(const Napi::CallbackInfo& info, size_t i, uint32_t most) {
  const double v = number(info, i);
  return v >= 1 && v <= most && v == std::floor(v) ? static_cast<uint32_t>(v) : 0;
}

inline bool areAmounts(const Napi::CallbackInfo& info, std::initializer_list<size_t> positions) {
  return std::all_of(positions.begin(), positions.end(), [&](size_t i) { return isAmount(number(info, i)); });
}

inline Napi::Value status(const Napi::CallbackInfo& info, int32_t code) { return Napi::Number::New(info.Env(), code); }

// Doubles of a Float64Array argument, or null when it is none or shorter than `least`.
inline double* doubles(const Napi::CallbackInfo& info, size_t i, size_t least) {
  if (i >= info.Length() || !info[i].IsTypedArray()) return nullptr;
  const auto array = info[i].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_float64_array || array.ElementLength() < least) return nullptr;
  return info[i].As<Napi::Float64Array>().Data();
}

// The same of a Uint8Array argument.
inline uint8_t* bytes(const Napi::CallbackInfo& info, size_t i, size_t least) {
  if (i >= info.Length() || !info[i].IsTypedArray()) return nullptr;
  const auto array = info[i].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array || array.ElementLength() < least) return nullptr;
  return info[i].As<Napi::Uint8Array>().Data();
}

inline bool textOf(const Napi::CallbackInfo& info, size_t i, std::string& text) {
  if (i >= info.Length() || !info[i].IsString()) return false;
  text = info[i].As<Napi::String>().Utf8Value();
  return !text.empty() && text.size() <= kLongestName;
}

using Call = Napi::Value (*)(const Napi::CallbackInfo&);
inline void addCalls(Napi::Env env, Napi::Object object, Attachment* a, std::initializer_list<std::pair<const char*, Call>> calls) {
  for (const auto& [name, call] : calls) object.Set(name, Napi::Function::New(env, call, name, a));
}

}  // namespace foretoken

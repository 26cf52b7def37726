// The functions that JavaScript calls, by the file that has them.
#pragma once

#include "attachment.h"

namespace foretoken {

// Of an attachment.
void addRequests(Napi::Env env, Napi::Object object, Attachment* a);
void addControl(Napi::Env env, Napi::Object object, Attachment* a);
void addNames(Napi::Env env, Napi::Object object, Attachment* a);
void addReadings(Napi::Env env, Napi::Object object, Attachment* a);

// Of the addon: the one request that is asked of all tables of a thread, and what makes tables.
void addAcquire(Napi::Env env, Napi::Object exports, Addon* addon);
void addRegions(Napi::Env env, Napi::Object exports);

// Memory that lives as long as the buffer over it.
template <class Owner>
Napi::ArrayBuffer wrap(Napi::Env env, void* data, size_t bytes, std::shared_ptr<Owner> owner) {
  auto* keep = new std::shared_ptr<Owner>(std::move(owner));
  return Napi::ArrayBuffer::New(env, data, bytes, [](Napi::Env, void*, std::shared_ptr<Owner>* kept) { delete kept; }, keep);
}

}  // namespace foretoken

// TLS on a socket that does not block. Certificates are not looked at, as by firmware: a swarm is pointed at a server
// that is its operator's own.
#pragma once
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cerrno>
#include <memory>
#include <stdexcept>
#include <string_view>

namespace angara::swarm {

// What became of a read or a write.
enum class Moved : uint8_t { Some, Later, Closed, Failed };

struct TlsEnd {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Tls = std::unique_ptr<SSL, TlsEnd>;

class TlsClient {
  public:
    TlsClient() : context_(SSL_CTX_new(TLS_client_method())) {
        if (context_ == nullptr) throw std::runtime_error("no TLS");
        SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
        SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                             SSL_MODE_RELEASE_BUFFERS);
    }

    Tls open(int fd) const {
        Tls ssl(SSL_new(context_.get()));
        if (ssl == nullptr || SSL_set_fd(ssl.get(), fd) != 1) throw std::runtime_error("no TLS for a connection");
        SSL_set_connect_state(ssl.get());
        return ssl;
    }

  private:
    std::unique_ptr<SSL_CTX, TlsEnd> context_;
};

// Of a call that returned this. `wants_write` is set where it is for that.
inline Moved moved(SSL* ssl, int returned, bool& wants_write) {
    const int error = returned > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, returned);
    ERR_clear_error();
    wants_write = error == SSL_ERROR_WANT_WRITE;
    if (error == SSL_ERROR_NONE) return Moved::Some;
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Moved::Later;
    return error == SSL_ERROR_ZERO_RETURN ? Moved::Closed : Moved::Failed;
}

}  // namespace angara::swarm

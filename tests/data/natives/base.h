#pragma once
#include <exception>

struct __attribute__((visibility("default"))) Oops : std::exception {
    ~Oops() override;
    const char *what() const noexcept override;
};

int base_count();
void base_throw();

// One source for two extension modules: FIRST uses the limited interface and a symbol that others
// may look for, the other one catches what libraries throw.
#ifdef FIRST
#define Py_LIMITED_API 0x03090000
#endif
#include <Python.h>

#include "base.h"
int middle_count();
void middle_throw();

#ifdef FIRST
extern "C" __attribute__((visibility("default"))) int natives_shared() { return 42; }
#define NAME "_first"
#define INIT PyInit__first
#else
#define NAME "_second"
#define INIT PyInit__second
#endif

static PyObject *count(PyObject *, PyObject *) { return PyLong_FromLong(middle_count()); }

static PyObject *caught(PyObject *, PyObject *) {
    try {
        middle_throw();
    } catch (const Oops &error) {
        return PyUnicode_FromString(error.what());
    } catch (...) {
        return PyUnicode_FromString("another type");
    }
    return PyUnicode_FromString("nothing");
}

static PyMethodDef methods[] = {
    {"count", count, METH_NOARGS, nullptr},
    {"caught", caught, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, NAME, nullptr, -1, methods,
                                 nullptr, nullptr, nullptr, nullptr};

PyMODINIT_FUNC INIT() { return PyModule_Create(&definition); }

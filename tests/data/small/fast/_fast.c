/* An extension module with a shared library of its own. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

long tally(long limit);

static PyObject *fast_tally(PyObject *module, PyObject *argument)
{
    (void)module;
    long limit = PyLong_AsLong(argument);
    if (limit == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(tally(limit));
}

static PyMethodDef methods[] = {
    {"tally", fast_tally, METH_O, "The sum of the numbers from 1 to a limit."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_fast", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&definition);
}

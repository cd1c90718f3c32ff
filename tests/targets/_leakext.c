/* SPDX-License-Identifier: Apache-2.0 */
/* An extension module that loses what it allocates; built by the tests with
 * the headers of each interpreter. */
#include <Python.h>

static void *volatile last_leak;

__attribute__((noinline)) static void leak_site(size_t size)
{
	last_leak = malloc(size); /* LEAK */
	memset(last_leak, 1, 8);
}

__attribute__((noinline)) static void native_between(size_t size)
{
	leak_site(size);
	__asm__ volatile("");
}

static PyObject *leak(PyObject *self, PyObject *arg)
{
	(void)self;
	native_between((size_t)PyLong_AsLong(arg));
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "leak", leak, METH_O, "Loses so many bytes." },
	{ NULL, NULL, 0, NULL },
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT, "_leakext", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__leakext(void);

PyMODINIT_FUNC PyInit__leakext(void)
{
	return PyModule_Create(&module);
}

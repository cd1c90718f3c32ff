/* SPDX-License-Identifier: Apache-2.0 */
typedef int tap_python_layer;

/* SPDX-License-Identifier: Apache-2.0 */
typedef int tap_memory_layer;

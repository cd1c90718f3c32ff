/* SPDX-License-Identifier: Apache-2.0 */
typedef int tap_view_layer;

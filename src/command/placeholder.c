/* SPDX-License-Identifier: Apache-2.0 */
typedef int tap_command_layer;

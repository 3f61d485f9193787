// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"os"
	"testing"

	"github.com/netpold/netpold/test/harness/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

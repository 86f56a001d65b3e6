package table_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lethe-crm/lethe/internal/table"
)

func TestAGuardIsLossFree(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"=1+1": "'=1+1", "+7495": "'+7495", "-5": "'-5", "@x": "'@x", "\tx": "'\tx", "\rx": "'\rx", "'quoted": "''quoted", "'": "''", "": "", "plain": "plain", "a=b": "a=b", "＝1": "'＝1",
	} {
		require.Equal(t, want, table.Guard(text))
		require.Equal(t, text, table.Unguard(want))
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		require.Equal(t, text, table.Unguard(table.Guard(text)))
	})
}

func TestWhatXMLCannotHoldIsEscapedWithoutLoss(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\x01b": "a_x0001_b", "_x0001_": "_x005F_x0001_", "_x005F_x0001_": "_x005F_x005F_x005F_x0001_", "line\r\n": "line\r\n", "_x": "_x005F_x", "_x0001\x02": "_x005F_x0001_x0002_", "\uFFFE": "_xFFFE_",
	} {
		require.Equal(t, want, table.Escape(text))
		require.Equal(t, text, table.Unescape(want))
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[\x01-\x1f_x0-9A-F\x{fffe}]{0,20}`).Draw(t, "text")
		require.Equal(t, text, table.Unescape(table.Escape(text)))
	})
}

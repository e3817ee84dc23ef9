/* Calls a native library that leaks, says "ready", and goes on until its stdin ends. */
public final class Leaking {
    private static native void forget();

    public static void main(String[] arguments) throws Exception {
        System.load(arguments[0]);
        for (int i = 0; i < 1500; i++) {
            forget();
        }
        System.out.println("ready");
        while (System.in.available() == 0) {
            forget();
            Thread.sleep(5);
        }
    }
}
